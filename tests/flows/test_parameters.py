"""What the forms of the flows accept."""

import re

import pytest
from prefect.utilities.callables import parameter_schema

from flows.release import import_results, release
from genebench.errors import LakeError
from lakehouse.score.plan import require_release_name

NAMES = ["2026.1", "a", "current", "current_paper", "Current", "2026 1", "_x", ".x", "x/y", ""]


@pytest.mark.parametrize("flow", [release, import_results])
@pytest.mark.parametrize("name", NAMES)
def test_the_forms_accept_exactly_the_names_that_a_new_release_can_have(flow, name):
    pattern = parameter_schema(flow.fn).properties["name"]["pattern"]
    try:
        require_release_name(name)
        is_allowed = True
    except LakeError:
        is_allowed = False
    assert bool(re.search(pattern, name)) == is_allowed

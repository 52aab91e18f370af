"""What a task run on another machine must get right before it writes."""

import pytest
from world import build_world

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    build_world(folder)
    return folder


def test_a_worker_with_another_lake_refuses_to_write(tmp_path, place_of, sources):
    from flows.context import open_context
    from genebench.errors import LakeError

    place_of(tmp_path / "here", sources)
    with pytest.raises(LakeError, match="give the worker the same GENEBENCH_LAKE"):
        open_context(lake_root=str(tmp_path / "elsewhere"))


def test_an_encoder_that_fails_on_a_worker_gives_its_own_reason_back():
    import pickle

    from genebench.errors import RegistryError

    again = pickle.loads(pickle.dumps(RegistryError(["one", "two"])))
    assert again.mistakes == ["one", "two"]

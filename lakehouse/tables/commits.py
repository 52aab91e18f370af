"""Commit metadata: the flow run, code version and inputs stored with each Delta commit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Commit:
    """The metadata of one commit.

    Args:
        flow_run: Id of the flow run; it is also `run_id` in the rows.
        code: Version of the code.
        inputs: The snapshot ids or table versions that were read, by name.
        profile: The profile of the lake.
        extra: Further metadata, by name.
    """

    flow_run: str
    code: str
    inputs: Mapping[str, str | int] = field(default_factory=dict)
    profile: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """The metadata as Delta stores it: strings by name, `inputs` as JSON.

        >>> Commit("run1", "0.1.0", {"silver.tasks": 3}).to_metadata()["inputs"]
        '{"silver.tasks": 3}'
        """
        return {
            "flow_run": self.flow_run,
            "code": self.code,
            "inputs": json.dumps(dict(self.inputs), sort_keys=True),
            "profile": self.profile,
            **self.extra,
        }

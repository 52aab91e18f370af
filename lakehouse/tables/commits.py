"""Who made a commit and from what: the lineage that a table's history keeps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Commit:
    """The circumstances of one commit.

    Args:
        flow_run: Id of the flow run; it is also `run_id` in the rows.
        code: Version of the code.
        inputs: What was read: snapshot ids or table versions, by name.
        profile: The profile that the lake serves.
        extra: Anything else worth keeping, by name.
    """

    flow_run: str
    code: str
    inputs: Mapping[str, str | int] = field(default_factory=dict)
    profile: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """The commit as Delta keeps it: strings by name, `inputs` as JSON.

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

"""What a check of a lake found, and the command that mends it."""

from dataclasses import dataclass

from genebench.errors import LakeError
from lakehouse.tables.manifest import CURATED_TABLES
from lakehouse.tables.storage import Storage

TIDY = "`genebench tidy --apply`"
RESTORE = "`genebench restore FOLDER` into a new lake, from a backup"
_COMPUTED_BY = {
    **dict.fromkeys(CURATED_TABLES, "curate"),
    **dict.fromkeys(("silver.embeddings", "silver.encoders"), "embed"),
    **dict.fromkeys(("gold.leaderboard", "gold.comparisons", "gold.verdicts"), "report"),
}


@dataclass(frozen=True)
class Finding:
    """One finding of `genebench doctor`.

    Attributes:
        where: The table, encoder, release or file.
        what: What is wrong, or what can be tidied.
        mend: The command that mends it.
        is_fault: Whether something is wrong. What is not a fault costs space or time only, or is
            work that the next run of its verb does.
    """

    where: str
    what: str
    mend: str
    is_fault: bool = True


class FaultsFound(LakeError):
    """The lake has faults; `genebench doctor` has printed them."""

    exit_code = 2


def mend_table(storage: Storage, name: str) -> str:
    """Name the command that brings a table back that cannot be read.

    Tables that a verb computes from others are deleted and computed again. What is lost of the
    others is in a backup only.
    """
    if name.startswith("bronze.") and name not in ("bronze.snapshots", "bronze.readings"):
        verb = f"refresh {name.partition('.')[2].partition('_')[0]}"
    elif name in _COMPUTED_BY:
        verb = _COMPUTED_BY[name]
    else:
        return RESTORE
    return f"delete {storage.uri(name.replace('.', '/'))}, then `genebench {verb}`"

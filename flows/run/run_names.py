"""What runs are called: the verb, then what it is about."""

from prefect.runtime import flow_run

SHOWN = 4
# In this order, with the word before each; what was not asked for is not named.
PARTS = (
    ("sources", ""),
    ("encoders", ""),
    ("tasks", "on "),
    ("families", "on "),
    ("release", ""),
    ("protocol", "by the protocol "),
    ("profile", "of the profile "),
)


def run_name() -> str:
    """The name of the flow run at hand, such as `score minilm, esm2 on genomic`."""
    return describe_run(flow_run.flow_name or "run", flow_run.parameters)


def describe_run(verb: str, parameters: dict[str, object]) -> str:
    """A verb with what it was asked for."""
    words = [verb]
    for parameter, word in PARTS:
        asked = parameters.get(parameter)
        if not asked:
            continue
        names = [str(name) for name in asked] if isinstance(asked, list | tuple) else [str(asked)]
        shown = ", ".join(names[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        words.append(f"{word}{shown}{more}")
    if parameters.get("dry_run"):
        words.append("(dry run)")
    return " ".join(words)

"""Names of flow runs by their parameters: templates of Prefect 3.8.8 print lists as Python does."""

from prefect.runtime import flow_run

from flows.run.parameters import SETTING

MAX_VALUES = 4
# The parameters in a name, in this order, each with its prefix.
NAMED_PARAMETERS = (
    ("sources", ""),
    ("vectors", ""),
    ("encoders", ""),
    ("tasks", "on "),
    ("task_patterns", "on "),
    ("families", "on "),
    ("against", "against "),
    ("release", ""),
    ("protocol", "by the protocol "),
    ("profile", "of the profile "),
)


def run_name() -> str:
    """Return the name of the current flow run, such as `score minilm, esm2 on genomic`."""
    return describe_run(flow_run.flow_name or "run", flow_run.parameters)


def describe_run(verb: str, parameters: dict[str, object]) -> str:
    """Return a verb followed by the parameters that have a value."""
    words = [verb]
    for parameter, prefix in NAMED_PARAMETERS:
        value = parameters.get(parameter)
        if not value or value == SETTING:
            continue
        if parameter == "vectors":
            # The file of a path or address.
            value = str(value).partition("?")[0].rpartition("/")[2]
        values = [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
        shown = ", ".join(values[:MAX_VALUES])
        more = f" and {len(values) - MAX_VALUES} more" if len(values) > MAX_VALUES else ""
        words.append(f"{prefix}{shown}{more}")
    if parameters.get("dry_run"):
        words.append("(dry run)")
    return " ".join(words)

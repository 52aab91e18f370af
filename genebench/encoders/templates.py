"""Text templates: fill the fields of an entity into one text, with a rule for missing fields."""

import string
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

MissingRule = Literal["skip", "partial"]


@lru_cache(maxsize=256)
def template_fields(template: str) -> tuple[str, ...]:
    """Return the field names of a template in order of appearance, without repeats.

    Raises:
        ValueError: The template has no field, or a field that is not a plain `{name}`.
    """
    names = []
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise ValueError(f"template {template!r}: {{{name}}} is not a plain field name")
        names.append(name)
    if not names:
        raise ValueError(f"template {template!r} has no field such as {{symbol}}")
    return tuple(dict.fromkeys(names))


def list_templates(declared: str | Sequence[str] | Mapping[str, str | Sequence[str]]) -> list[str]:
    """List the templates of a declaration's `template`: one, several, or either by entity type."""
    groups = list(declared.values()) if isinstance(declared, Mapping) else [declared]
    return [text for one in groups for text in ([one] if isinstance(one, str) else one)]


def render_template(
    template: str, fields: Mapping[str, str], missing: MissingRule = "skip"
) -> str | None:
    """Fill a template with the fields of one entity.

    A field is missing if it is absent, empty or only white space. With `skip`, the result is None
    if any field is missing. With `partial`, `No available <field>` replaces a missing field and
    the result is None only if all fields are missing; the published package calls this rule
    `allow_partial`.

    >>> fields = {"symbol": "TP53", "name": "tumor protein"}
    >>> render_template("Gene symbol {symbol} full name {name}", fields)
    'Gene symbol TP53 full name tumor protein'
    >>> render_template("{symbol}: {summary}", {"symbol": "TP53"}) is None
    True
    >>> render_template("{symbol}: {summary}", {"symbol": "TP53"}, "partial")
    'TP53: No available summary'

    Raises:
        ValueError: The rule is unknown, or the template is invalid.
    """
    if missing not in ("skip", "partial"):
        raise ValueError(f"missing must be 'skip' or 'partial', not {missing!r}")
    names = template_fields(template)
    present = {name: value for name, value in fields.items() if value and not value.isspace()}
    if all(name in present for name in names):
        return template.format_map(present)
    if missing == "skip" or not any(name in present for name in names):
        return None
    return template.format_map({n: present.get(n, f"No available {n}") for n in names})

"""Templates: the fields of an entity become one text, by a stated rule for what is missing."""

import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

MissingRule = Literal["skip", "partial"]


@lru_cache(maxsize=256)
def fields_of(template: str) -> tuple[str, ...]:
    """Names of the fields of a template in their order.

    Raises:
        ValueError: The template has no field, or one that is not a plain `{name}`.
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


def render(template: str, fields: Mapping[str, str], missing: MissingRule = "skip") -> str | None:
    """Fill a template with the fields of one entity.

    A field that is absent, empty or white space is missing. `skip` gives no text where a field is
    missing. `partial` writes `No available <field>` in its place and gives no text only where
    all are missing, which is the rule of the published package (`allow_partial`).

    >>> render("Gene symbol {symbol} full name {name}", {"symbol": "TP53", "name": "tumor protein"})
    'Gene symbol TP53 full name tumor protein'
    >>> render("{symbol}: {summary}", {"symbol": "TP53"}) is None
    True
    >>> render("{symbol}: {summary}", {"symbol": "TP53"}, "partial")
    'TP53: No available summary'

    Raises:
        ValueError: The rule is none of the two, or the template is not one.
    """
    if missing not in ("skip", "partial"):
        raise ValueError(f"missing is 'skip' or 'partial', not {missing!r}")
    names = fields_of(template)
    present = {name: value for name, value in fields.items() if value and not value.isspace()}
    if all(name in present for name in names):
        return template.format_map(present)
    if missing == "skip" or not any(name in present for name in names):
        return None
    return template.format_map({n: present.get(n, f"No available {n}") for n in names})

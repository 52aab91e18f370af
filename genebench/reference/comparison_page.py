"""Renders a comparison as one self-contained HTML page."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import polars as pl

from genebench.evaluation.metrics import METRICS
from genebench.reference.comparison_tables import ComparisonTables

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
       color: #1e293b; background: #fff; }
table { border-collapse: collapse; margin: .5rem 0 2rem; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #e2e8f0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.mine td { background: #fff7ed; font-weight: 600; }
p.result { font-size: 1.15rem; }
svg { max-width: 100%; height: auto; }
"""


def render_comparison(found: ComparisonTables) -> str:
    """Render the page: sentence, figure, means, verdicts, tasks, coverage, identifiers, notes."""
    import vl_convert

    name = escape(found.name)
    chart = vl_convert.vegalite_to_svg(draw_means(found).to_dict())
    means = found.means()
    verdicts = found.verdicts()
    listed = "".join(f"<li>{escape(line)}</li>" for line in found.identifiers.lines())
    notes = "".join(f"<li>{escape(line)}</li>" for line in found.notes)
    parts = [
        f"<h1>{name}</h1>",
        f'<p class="result">{escape(found.sentence())}</p>',
        f"<p>Profile {escape(found.profile)}, protocol {escape(found.protocol)}.</p>",
        chart,
        "<h2>Means by family</h2>",
        _table(
            ["family", "encoder", "kind", "ROC AUC", "low", "high"],
            means.select("scope", "encoder_id", "modality", "value", "low", "high").iter_rows(),
            mine=found.name,
        ),
        "<h2>Against each rival</h2>",
        _table(["rival", *verdicts.columns[1:]], verdicts.iter_rows()),
        "<h2>Tasks</h2>",
        _frame(found.tasks()),
        "<h2>Paired differences by task</h2>",
        _frame(found.differences),
        "<h2>Coverage</h2>",
        _frame(found.coverage),
        "<h2>Identifiers</h2>",
        f"<ul>{listed}</ul>",
        f"<h2>Notes</h2><ul>{notes}</ul>" if notes else "",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def draw_means(found: ComparisonTables) -> Any:
    """Draw the means by family of all encoders as an Altair chart, the new vectors marked."""
    import altair as alt

    rows = found.means().with_columns((pl.col("encoder_id") == found.name).alias("mine"))
    base = alt.Chart(rows.to_arrow()).encode(
        y=alt.Y("encoder_id:N", title=None, axis=alt.Axis(minExtent=130)),
        color=alt.condition("datum.mine", alt.value("#c2410c"), alt.value("#64748b")),
    )
    points = base.mark_point(filled=True, size=60).encode(
        x=alt.X("value:Q", title=METRICS["roc_auc"].title, scale=alt.Scale(zero=False))
    )
    bars = base.mark_rule().encode(x="low:Q", x2="high:Q")
    return (points + bars).properties(width=220).facet(alt.Facet("scope:N", title=None), columns=3)


def _frame(rows: pl.DataFrame) -> str:
    return _table([name.replace("_", " ") for name in rows.columns], rows.iter_rows())


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], mine: str = "") -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = []
    for row in rows:
        mark = ' class="mine"' if mine and mine in row else ""
        body.append(f"<tr{mark}>{''.join(_cell(value) for value in row)}</tr>")
    return f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        shown = f"{value:.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:.1e}"
        return f'<td class="number">{shown}</td>'
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{'–' if value is None else escape(str(value))}</td>"

"""Writes a release's report: one self-contained HTML file, and each figure as SVG and PNG."""

import functools
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from genebench.digest import digest_json
from genebench.errors import LakeError
from lakehouse.report.page.charts import balance_chart, folds_chart, histogram_chart
from lakehouse.report.page.contents import read_contents
from lakehouse.report.page.figures.figure import COLOURS, Figure
from lakehouse.report.page.figures.rank_figures import draw_rank_figures
from lakehouse.report.page.figures.release_figures import draw_figures
from lakehouse.report.page.payload import to_payload
from lakehouse.tables.catalogue import TABLES
from lakehouse.tables.time_travel import Tables

HERE = Path(__file__).parent
PAGE = "index.html"
SCRIPTS = ("widgets.js", "significance.js", "relatives.js", "page.js")
FIGURES = "figures"
PNG_SCALE = 2.0
# The report digest is within this many characters from the start of the page.
HEAD_LENGTH = 2000

# Bundled with vega-embed so that the page can call it without loading anything.
_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def write_report(
    tables: Tables,
    release: str,
    folder: Path,
    *,
    code: str = "",
    with_files: bool = True,
) -> Path:
    """Write a release's page and, in `figures/`, its figures as SVG and PNG.

    Args:
        tables: The tables of the lake.
        release: The release.
        folder: The folder for `index.html` and `figures/`; created if missing.
        code: The genebench version, for the provenance.
        with_files: Write the figures as files too.

    Returns:
        The path of the page.

    Raises:
        LakeError: The release does not exist, or the folder cannot be written.
    """
    contents = read_contents(tables, release)
    figures = [*draw_figures(contents), *draw_rank_figures(contents)]
    payload = to_payload(tables, contents, code)
    page = render_page(
        payload, figures, report_digest(tables, release, code, with_files=with_files)
    )
    path = folder / PAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if with_files:
            write_figures(figures, folder / FIGURES)
        # Renaming makes the complete page appear at once.
        draft = path.with_suffix(".part")
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise LakeError(f"the report cannot be written to {folder}: {error}") from error
    return path


def write_figures(figures: Sequence[Figure], folder: Path) -> None:
    """Write each figure as `<id>.svg` and `<id>.png`."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    version = _vegalite_version()
    for figure in figures:
        spec = to_spec(figure.chart)
        svg = vl_convert.vegalite_to_svg(spec, vl_version=version)
        png = vl_convert.svg_to_png(svg, scale=PNG_SCALE)
        (folder / f"{figure.id}.svg").write_text(svg, encoding="utf-8")
        (folder / f"{figure.id}.png").write_bytes(png)


def to_spec(chart: Any) -> dict[str, Any]:
    """Convert a chart to Vega-Lite JSON that contains all its rows."""
    with alt.data_transformers.enable("default", max_rows=None):
        # Schema validation takes most of the time and is not needed: the tests draw every figure.
        spec: dict[str, Any] = chart.to_dict(validate=False)
    spec.pop("$schema", None)
    return spec


def report_digest(tables: Tables, release: str, code: str, *, with_files: bool) -> str:
    """Return the digest of a report's inputs: release, code, table versions and `with_files`."""
    shown = [name for name in TABLES if name.startswith(("silver.", "gold."))]
    versions = [tables.delta.version(name) for name in shown]
    return digest_json([release, code, versions, with_files])


def is_current(
    tables: Tables, release: str, folder: Path, code: str, *, with_files: bool = True
) -> bool:
    """Return whether the report in a folder was written from the current tables by this code."""
    if not (folder / PAGE).is_file() or (with_files and not (folder / FIGURES).is_dir()):
        return False
    state = report_digest(tables, release, code, with_files=with_files)
    with (folder / PAGE).open(encoding="utf-8") as page:
        return f'content="{state}"' in page.read(HEAD_LENGTH)


def render_page(payload: dict[str, Any], figures: Sequence[Figure], state: str = "") -> str:
    """Fill the page template with data, charts, style and scripts."""
    drawn = [
        {"id": one.id, "title": one.title, "caption": one.caption, "spec": to_spec(one.chart)}
        for one in figures
    ]
    templates = {
        "folds": to_spec(folds_chart()),
        "balance": to_spec(balance_chart()),
        "histogram": to_spec(histogram_chart()),
    }
    release = payload["release"]
    parts = {
        "state": state,
        "title": html.escape(f"genebench · {release['id']}"),
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "data": _script_json({**payload, "colours": COLOURS, "templates": templates}),
        "figures": _script_json(drawn),
        "vega": _vega_bundle(),
        "script": "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    page = (HERE / "page.html").read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)
    return page


def _script_json(value: Any) -> str:
    """Serialise a value as JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


@functools.cache
def _vega_bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(_SNIPPET, vl_version=_vegalite_version())
    return bundle.replace("</script", "<\\/script")


def _vegalite_version() -> str:
    """Return the Vega-Lite version that Altair targets, in vl-convert's notation."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])

"""The report on disk: one HTML file without any server or network, and each figure as a file."""

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
from lakehouse.report.page.figures import COLOURS, Figure, draw_figures
from lakehouse.report.page.payload import to_payload
from lakehouse.report.page.rank_figures import draw_ranks
from lakehouse.tables.catalogue import TABLES
from lakehouse.tables.time_travel import Tables

HERE = Path(__file__).parent
PAGE = "index.html"
SCRIPTS = ("evidence.js", "page.js")
FIGURES = "figures"
PNG_SCALE = 2.0
# The page's state stands within its first so many characters.
HEAD_LENGTH = 2000

# The bundle defines what the page calls; nothing is fetched when it opens.
_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def write_report(
    lake: Tables,
    release: str,
    folder: Path,
    *,
    code: str = "",
    with_files: bool = True,
) -> Path:
    """Write a release's page, and its figures as SVG and PNG beside it.

    Args:
        lake: The lake.
        release: The release.
        folder: Where `index.html` and `figures/` go; made where missing.
        code: The version of genebench, for the provenance.
        with_files: Whether the figures are written as files too.

    Returns:
        The page.

    Raises:
        LakeError: The release does not exist, or the folder cannot be written.
    """
    contents = read_contents(lake, release)
    figures = [*draw_figures(contents), *draw_ranks(contents)]
    payload = to_payload(lake, contents, code)
    page = render_page(payload, figures, state_of(lake, release, code, with_files=with_files))
    path = folder / PAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if with_files:
            write_figures(figures, folder / FIGURES)
        # The page appears whole or not at all.
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
        png = vl_convert.vegalite_to_png(spec, vl_version=version, scale=PNG_SCALE)
        (folder / f"{figure.id}.svg").write_text(svg, encoding="utf-8")
        (folder / f"{figure.id}.png").write_bytes(png)


def to_spec(chart: Any) -> dict[str, Any]:
    """A chart as Vega-Lite JSON, with its rows in it however many."""
    with alt.data_transformers.enable("default", max_rows=None):
        # Checking against the schema takes most of the time; the tests draw every figure.
        spec: dict[str, Any] = chart.to_dict(validate=False)
    spec.pop("$schema", None)
    return spec


def state_of(lake: Tables, release: str, code: str, *, with_files: bool) -> str:
    """Digest of what a report is: the release, the tables' versions, the code, figures or none."""
    shown = [name for name in TABLES if name.startswith(("silver.", "gold."))]
    versions = [lake.delta.version(name) for name in shown]
    return digest_json([release, code, versions, with_files])


def is_current(
    lake: Tables, release: str, folder: Path, code: str, *, with_files: bool = True
) -> bool:
    """Whether a folder holds the report, with or without figures, of the lake as it is."""
    if not (folder / PAGE).is_file() or (with_files and not (folder / FIGURES).is_dir()):
        return False
    state = state_of(lake, release, code, with_files=with_files)
    with (folder / PAGE).open(encoding="utf-8") as page:
        return f'content="{state}"' in page.read(HEAD_LENGTH)


def render_page(payload: dict[str, Any], figures: Sequence[Figure], state: str = "") -> str:
    """Put data, charts, style and scripts into the template."""
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
        "data": _embed({**payload, "colours": COLOURS, "templates": templates}),
        "figures": _embed(drawn),
        "vega": _vega(),
        "script": "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    page = (HERE / "page.html").read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)
    return page


def _embed(value: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(_SNIPPET, vl_version=_vegalite_version())
    return bundle.replace("</script", "<\\/script")


def _vegalite_version() -> str:
    """The version that Altair writes for, as vl-convert names it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])

"""The `Figure` class, and the colours, shapes and encoder names that all figures share."""

from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

# The palette of Okabe and Ito, which is safe for all types of colour blindness.
COLOURS = {
    "text": "#0072B2",
    "expression": "#009E73",
    "protein": "#D55E00",
    "dna": "#CC79A7",
    "classical": "#E69F00",
    "control": "#8A8F98",
}
GREY = COLOURS["control"]
SHAPES = {name: "diamond" if name == "control" else "circle" for name in COLOURS}
# Height of a row and of a heat-map cell, and width of a cell, in pixels.
STEP = 18
CELL = 34


@dataclass(frozen=True)
class Figure:
    """A chart with its title and caption.

    Attributes:
        id: Slug; the name of the figure's files.
        title: What the figure shows.
        caption: How to read the figure, and what it leaves out.
        chart: The Vega-Altair chart.
    """

    id: str
    title: str
    caption: str
    chart: Any


def tooltips(*columns: str) -> list[alt.Tooltip]:
    """Return what a tooltip shows: columns, whose types Altair infers.

    Altair (6.3) takes a bare name too, but searches all its classes for what each one stands for.
    """
    return [alt.Tooltip(column) for column in columns]


def unique_titles(title: str, name: str) -> pl.Expr:
    """Return an expression of the title column, with the id appended to duplicate titles.

    Args:
        title: The column of titles.
        name: The column of ids.
    """
    return (
        pl.when(pl.col(title).is_duplicated())
        .then(pl.concat_str(title, pl.lit(" ("), name, pl.lit(")")))
        .otherwise(pl.col(title))
    )


def name_encoders(encoders: pl.DataFrame) -> pl.DataFrame:
    """Return the name of each encoder as figures show it.

    Args:
        encoders: encoder_id, title and is_control.

    Returns:
        encoder_id and encoder: the title, with the id if titles are equal, and " (control)" after
        the title of a control.
    """
    suffix = pl.when(pl.col("is_control")).then(pl.lit(" (control)")).otherwise(pl.lit(""))
    return encoders.select(
        "encoder_id", (unique_titles("title", "encoder_id") + suffix).alias("encoder")
    )


def encoder_names(encoders: pl.DataFrame) -> list[str]:
    """Return the names of encoders in the order of the rows."""
    return name_encoders(encoders)["encoder"].to_list()


def colour_by_modality(rows: pl.DataFrame) -> alt.Color:
    """Return the colour encoding of the modality, with a legend of the modalities in the rows."""
    present = [name for name in COLOURS if name in rows["modality"]]
    return alt.Color(
        "modality:N",
        title="modality",
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        legend=alt.Legend(orient="top", values=present, symbolOpacity=1, symbolSize=80),
    )


def shape_by_modality() -> alt.Shape:
    """Return the shape encoding of the modality: diamonds for controls, circles for others."""
    return alt.Shape(
        "modality:N",
        title="modality",
        scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())),
    )

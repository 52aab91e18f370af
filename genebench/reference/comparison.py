"""The result of `genebench.evaluate`: tables, figure, page and bundle."""

from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from genebench.errors import GenebenchError
from genebench.reference.bundle import write_bundle
from genebench.reference.comparison_page import draw_means, render_comparison
from genebench.reference.comparison_tables import ComparisonTables


class Comparison(ComparisonTables):
    """Scores of new vectors beside the encoders of a reference release; see `ComparisonTables`."""

    def write_bundle(self, path: str | Path) -> None:
        """Write a parquet file with which others can compare, without my vectors.

        Raises:
            GenebenchError: No task has a score.
        """
        if not self.bundle.height:
            raise GenebenchError(f"{self.name} has no score; there is nothing to write to {path}")
        write_bundle(Path(path), self.bundle)

    def report(self, path: str | Path) -> Path:
        """Write all results as one self-contained HTML page; return its path."""
        target = Path(path)
        target.write_text(render_comparison(self), encoding="utf-8")
        return target

    def figure(self) -> Any:
        """Means by family of all encoders as an Altair chart, the new vectors marked."""
        return draw_means(self)

    def __repr__(self) -> str:
        return self.sentence()

    def _repr_html_(self) -> str:
        shown = self.table().with_columns(pl.selectors.float().round(3))
        return f"<p>{escape(self.sentence())}</p>{shown._repr_html_()}"

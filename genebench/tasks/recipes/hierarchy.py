"""Hierarchy of nodes, such as Gene Ontology terms: roots, levels and descendants."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import polars as pl


@dataclass(frozen=True)
class Hierarchy:
    """A directed acyclic graph from parents to children.

    Args:
        edges: Columns `parent` and `child`.
    """

    edges: pl.DataFrame

    @classmethod
    def from_edges(
        cls,
        edges: pl.DataFrame,
        child: str,
        parent: str,
        relation: str | None = None,
        relations: Iterable[str] = (),
    ) -> "Hierarchy":
        """Build the hierarchy from edges; with a relation column, from the given relations only."""
        if relation is not None:
            edges = edges.filter(pl.col(relation).is_in(list(relations)))
        return cls(edges.select(pl.col(parent).alias("parent"), pl.col(child).alias("child")))

    @cached_property
    def roots(self) -> list[str]:
        """Parents that are not a child of any node, sorted."""
        tops = self.edges.join(self.edges, left_on="parent", right_on="child", how="anti")
        return tops["parent"].unique().sort().to_list()

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        grouped = self.edges.group_by("parent").agg("child")
        return dict(zip(grouped["parent"].to_list(), grouped["child"].to_list(), strict=True))

    def at_depth(self, roots: Iterable[str], depth: int) -> list[str]:
        """Return the nodes whose shortest path from any of the roots has `depth` steps, sorted."""
        level = sorted(roots)
        seen = set(level)
        for _ in range(depth):
            below = self.edges.filter(pl.col("parent").is_in(level))["child"].unique().to_list()
            level = sorted(set(below) - seen)
            seen.update(level)
        return level

    def subtree(self, node: str) -> set[str]:
        """Return the node and all its descendants."""
        reached, frontier = {node}, {node}
        while frontier:
            frontier = {c for n in frontier for c in self._children.get(n, [])} - reached
            reached |= frontier
        return reached

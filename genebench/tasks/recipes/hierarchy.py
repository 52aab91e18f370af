"""Hierarchy of nodes, such as Gene Ontology terms: roots, levels and descendants."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl


@dataclass(frozen=True)
class Hierarchy:
    """A directed acyclic graph from parents to children.

    Args:
        children: Each node's children.
    """

    children: Mapping[str, list[str]]

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
        return cls(dict(edges.group_by(parent).agg(pl.col(child)).iter_rows()))

    @cached_property
    def roots(self) -> list[str]:
        """Parents that are not a child of any node, sorted."""
        below = {child for children in self.children.values() for child in children}
        return sorted(set(self.children) - below)

    def at_depth(self, roots: Iterable[str], depth: int) -> list[str]:
        """Return the nodes whose shortest path from any of the roots has `depth` steps, sorted."""
        level = sorted(roots)
        seen = set(level)
        for _ in range(depth):
            below = {child for node in level for child in self.children.get(node, [])} - seen
            seen |= below
            level = sorted(below)
        return level

    def subtree(self, node: str) -> set[str]:
        """Return the node and all its descendants."""
        reached, frontier = {node}, {node}
        while frontier:
            frontier = {c for n in frontier for c in self.children.get(n, [])} - reached
            reached |= frontier
        return reached

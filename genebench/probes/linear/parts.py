"""Training rows by subproblem: passes over rows skip the subproblems that hold them out.

The rows that a fold holds out are neighbours (`groups.py`), so that the columns of the others are
one matrix there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# (width, columns) of coefficients and (columns,) of intercepts.
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Runs:
    """Neighbouring rows that are trained on together.

    Attributes:
        rows: Of each run; together all rows.
        some: (runs, masks) bool, whether a mask holds any row of the run.
        all: (runs, masks) bool, whether it holds every row.
    """

    rows: tuple[slice, ...]
    some: Tensor
    all: Tensor

    @classmethod
    def of(cls, rows: tuple[slice, ...], masks: Tensor) -> "Runs":
        """Runs of rows, and what (n, masks) bool masks hold of them."""
        runs = [masks[run] for run in rows]
        some, every = ([run.any(dim=0) for run in runs], [run.all(dim=0) for run in runs])
        return cls(rows, torch.stack(some), torch.stack(every))


@dataclass(frozen=True)
class Part:
    """Neighbouring rows, and the systems that train on any of them.

    Attributes:
        number: Its place among the parts of a batch.
        rows: Its own.
        systems: Numbers of the systems, in rising order.
        columns: Theirs.
        is_whole: Whether they are all systems of the batch.
        is_trained: Whether each trains on all of the rows.
    """

    number: int
    rows: slice
    systems: Tensor
    columns: Tensor
    is_whole: bool
    is_trained: bool

    def take(self, tensor: Tensor) -> Tensor:
        """What a (..., columns) tensor has for the columns of the part."""
        return tensor if self.is_whole else tensor.index_select(-1, self.columns)


@dataclass(frozen=True)
class Block:
    """Some rows of a part.

    Attributes:
        part: Whose.
        rows: Among all rows.
        here: Among those of the part.
    """

    part: Part
    rows: slice
    here: slice


@dataclass(frozen=True)
class Some:
    """Some of the systems of a batch.

    Attributes:
        systems: Their numbers.
        columns: Theirs.
        in_parts: For each part of the batch, where it has those of their columns that it has.
    """

    systems: Tensor
    columns: Tensor
    in_parts: tuple[Tensor, ...]

    def take(self, pair: Pair) -> Pair:
        """What a pair has for their columns."""
        return pair[0].index_select(1, self.columns), pair[1][self.columns]

    def put(self, whole: Pair, part: Pair) -> None:
        """Write what a pair has for their columns."""
        whole[0].index_copy_(1, self.columns, part[0])
        whole[1][self.columns] = part[1]


class ByPart:
    """Numbers for rows and columns, but for rows that the system of a column does not train on.

    Args:
        tensors: For each part of a batch, (its rows, its columns).
    """

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self.tensors = tensors

    def __getitem__(self, block: Block) -> Tensor:
        return self.tensors[block.part.number][block.here]

    def __setitem__(self, block: Block, numbers: Tensor) -> None:
        self.tensors[block.part.number][block.here] = numbers

    def to(self, dtype: torch.dtype) -> "ByPart":
        """The same numbers in another type."""
        return ByPart(tuple(tensor.to(dtype) for tensor in self.tensors))

    def take(self, some: Some) -> "ByPart":
        """Those of some of the systems."""
        pairs = zip(self.tensors, some.in_parts, strict=True)
        return ByPart(tuple(tensor.index_select(1, columns) for tensor, columns in pairs))

    def put(self, part: "ByPart", some: Some) -> None:
        """Write those of some of the systems."""
        for tensor, other, columns in zip(self.tensors, part.tensors, some.in_parts, strict=True):
            tensor.index_copy_(1, columns, other)


def columns_of(systems: Tensor, n_classes: int) -> Tensor:
    """Column numbers of these systems."""
    if n_classes == 1:
        return systems
    offsets = torch.arange(n_classes, device=systems.device)
    return (systems[:, None] * n_classes + offsets).flatten()

"""Row segments: each pass over the rows skips the subproblems that hold a segment out.

`problem_groups` sorts the rows by the fold that holds them out, so that a segment is a slice of
rows and the columns of its training subproblems form one matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# (width, columns) coefficients and (columns,) intercepts.
Parameters = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class RowSegments:
    """Slices of rows that together are all rows, and which masks hold them.

    Attributes:
        rows: Slice of each segment.
        some: (segments, masks) bool, whether a mask holds any row of the segment.
        all: (segments, masks) bool, whether a mask holds every row of the segment.
    """

    rows: tuple[slice, ...]
    some: Tensor
    all: Tensor

    @classmethod
    def of(cls, rows: tuple[slice, ...], masks: Tensor) -> "RowSegments":
        """Segments of (n, masks) bool masks."""
        parts = [masks[part] for part in rows]
        some, every = [part.any(dim=0) for part in parts], [part.all(dim=0) for part in parts]
        return cls(rows, torch.stack(some), torch.stack(every))


@dataclass(frozen=True)
class Segment:
    """A slice of rows and the subproblems that train on any of them.

    Attributes:
        number: Position among the segments of a batch.
        rows: Slice of all rows.
        subproblems: Their numbers, ascending.
        columns: Their column numbers.
        is_whole: Whether they are all subproblems of the batch.
        is_trained: Whether each of them trains on every row.
    """

    number: int
    rows: slice
    subproblems: Tensor
    columns: Tensor
    is_whole: bool
    is_trained: bool

    def take(self, tensor: Tensor) -> Tensor:
        """The segment's columns of a (..., columns) tensor."""
        return tensor if self.is_whole else tensor.index_select(-1, self.columns)


@dataclass(frozen=True)
class Block:
    """A block of rows of a segment.

    Attributes:
        segment: The segment.
        rows: Slice of all rows.
        here: Slice of the segment's rows.
    """

    segment: Segment
    rows: slice
    here: slice


@dataclass(frozen=True)
class Subset:
    """Some of the subproblems of a batch.

    Attributes:
        subproblems: Their numbers.
        columns: Their column numbers.
        in_segments: For each segment of the batch, the positions of their columns in it.
    """

    subproblems: Tensor
    columns: Tensor
    in_segments: tuple[Tensor, ...]

    def take(self, parameters: Parameters) -> Parameters:
        """Their columns."""
        return parameters[0].index_select(1, self.columns), parameters[1][self.columns]

    def put(self, whole: Parameters, part: Parameters) -> None:
        """Write their columns, in place."""
        whole[0].index_copy_(1, self.columns, part[0])
        whole[1][self.columns] = part[1]


class RaggedArray:
    """A number for each row and column, except for rows that a column's subproblem holds out.

    Args:
        tensors: For each segment of a batch, (rows, columns of the segment).
    """

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self.tensors = tensors

    def __getitem__(self, block: Block) -> Tensor:
        return self.tensors[block.segment.number][block.here]

    def __setitem__(self, block: Block, numbers: Tensor) -> None:
        self.tensors[block.segment.number][block.here] = numbers

    def to(self, dtype: torch.dtype) -> "RaggedArray":
        """Convert to another dtype."""
        return RaggedArray(tuple(tensor.to(dtype) for tensor in self.tensors))

    def take(self, subset: Subset) -> "RaggedArray":
        """The columns of a subset."""
        pairs = zip(self.tensors, subset.in_segments, strict=True)
        return RaggedArray(tuple(tensor.index_select(1, columns) for tensor, columns in pairs))

    def put(self, part: "RaggedArray", subset: Subset) -> None:
        """Write the columns of a subset, in place."""
        for tensor, other, columns in zip(
            self.tensors, part.tensors, subset.in_segments, strict=True
        ):
            tensor.index_copy_(1, columns, other)


def columns_of(subproblems: Tensor, n_classes: int) -> Tensor:
    """Column numbers of subproblems."""
    if n_classes == 1:
        return subproblems
    offsets = torch.arange(n_classes, device=subproblems.device)
    return (subproblems[:, None] * n_classes + offsets).flatten()

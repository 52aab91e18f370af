"""One pass over the rows of a batch: forward and adjoint product, block by block.

What depends on a forward product is done block by block, while it is in the processor's cache.
"""

from torch import Tensor

from genebench.probes.linear.batches import Batch, Point
from genebench.probes.linear.designs import Products
from genebench.probes.linear.parts import Block, Pair, Part


class Forward:
    """x w + b, block by block.

    Args:
        pair: w and b of a batch.
        products: Of the design's matrix, or of one that is rounded.
    """

    def __init__(self, pair: Pair, products: Products) -> None:
        self.products, self.projected = products, products.project(*pair)
        self.part: Part | None = None

    def rows(self, block: Block) -> Tensor:
        """(block, columns of its part), a new tensor."""
        if block.part is not self.part:
            self.part = block.part
            self.some = self.projected
            if not block.part.is_whole:
                self.some = self.products.some(self.projected, block.part.columns)
        return self.products.rows(self.some, block.rows)


class Adjoint:
    """x' u and 1' u, summed block by block.

    Args:
        batch: The systems.
        products: Of the design's matrix, or of one that is rounded.
    """

    def __init__(self, batch: Batch, products: Products) -> None:
        self.products = products
        self.whole = self.sums = products.zeros(batch.n_columns)
        self.part: Part | None = None

    def collect(self, block: Block, values: Tensor) -> None:
        """Add (block, columns of its part) of u, which may be overwritten."""
        if block.part is not self.part:
            self._close()
            self.part = block.part
            if not block.part.is_whole:
                self.sums = self.products.zeros(len(block.part.columns))
        self.products.collect(self.sums, block.rows, values)

    def finish(self) -> Pair:
        """The sums."""
        self._close()
        return self.products.finish(self.whole)

    def _close(self) -> None:
        if self.part is not None and self.sums is not self.whole:
            for whole, added in zip(self.whole, self.sums, strict=True):
                whole.index_add_(self.products.column_axis, self.part.columns, added)
        self.sums = self.whole


def move_to(batch: Batch, pair: Pair) -> Point:
    """The point of these coefficients and intercepts."""
    values = batch.empty()
    # Where all begin there is nothing to multiply.
    forward = Forward(pair, batch.design) if bool(pair[0].any()) else None
    for block in batch.blocks():
        values[block] = forward.rows(block) if forward else block.part.take(pair[1])
    return Point(*pair, values)

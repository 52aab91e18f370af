"""A whole forward product of a design, for tests to compare with."""

import torch


def multiply_by(design, coefficients, intercepts):
    """(n, columns) of x w + b."""
    projected = design.project((coefficients, intercepts))
    blocks = torch.arange(design.n_rows).split(100)
    rows = [slice(int(block[0]), int(block[-1]) + 1) for block in blocks]
    return torch.cat([design.rows(projected, block) for block in rows])

"""Parameters as one tensor, and a whole forward product of a design, for tests to compare with."""

import torch


def stack(coefficients, intercepts):
    """(width + 1, columns) parameters."""
    return torch.cat([coefficients, intercepts[None]])


def split(parameters):
    """(width, columns) coefficients and (columns,) intercepts."""
    return parameters[:-1], parameters[-1]


def multiply_by(design, coefficients, intercepts):
    """(n, columns) of x w + b."""
    projected = design.project(stack(coefficients, intercepts))
    blocks = torch.arange(design.n_rows).split(100)
    rows = [slice(int(block[0]), int(block[-1]) + 1) for block in blocks]
    return torch.cat([design.rows(projected, block) for block in rows])

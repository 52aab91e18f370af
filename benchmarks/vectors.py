"""Benchmarks reading an embedding table into a matrix, compared with a raw .npy file.

python -m benchmarks.vectors --rows 20000 --width 1024
"""

import argparse
import datetime as dt
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.__main__ import keep, show
from lakehouse.embed.stored_vectors import read_stored_matrix
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta
from lakehouse.tables.vectors import to_vectors

ROUNDS = 31
ENCODERS = ("drawn", "other")


def write_table(delta: Delta, encoder_id: str, matrix: np.ndarray) -> None:
    """One encoder's vectors as `genebench embed` leaves them."""
    n, width = matrix.shape
    ids = pl.Series([f"hgnc:{number}" for number in range(n)])
    frame = pl.select(
        encoder_id=pl.repeat(encoder_id, n),
        encoder_digest=pl.lit("0" * 32),
        entity_type=pl.lit("gene"),
        entity_id=ids,
        vector=to_vectors(matrix),
        dimension=pl.lit(width),
        vector_digest=ids.hash().cast(pl.String),
        input_digest=ids.hash(1).cast(pl.String),
        n_parts=pl.lit(1),
        run_id=pl.lit("drawn"),
        embedded_at=pl.lit(dt.datetime.now(dt.UTC)),
    ).cast(dict(table("silver.embeddings").schema))
    commit = Commit("drawn", "drawn")
    delta.replace("silver.embeddings", frame, commit, {"encoder_id": encoder_id})


def main() -> None:
    """Time both, in turn, with the files in the page cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1024)
    given = parser.parse_args()
    matrix = np.random.default_rng(0).normal(size=(given.rows, given.width)).astype(np.float32)
    times: dict[str, list[float]] = {"table": [], "npy": []}
    with tempfile.TemporaryDirectory() as folder:
        delta = Delta(Path(folder) / "lake")
        for encoder_id in ENCODERS:
            write_table(delta, encoder_id, matrix)
        raw = Path(folder) / "vectors.npy"
        np.save(raw, matrix)
        os.sync()
        for _ in range(ROUNDS):
            started = time.perf_counter()
            rows, found = read_stored_matrix(delta, "drawn", "gene")
            times["table"].append(time.perf_counter() - started)
            started = time.perf_counter()
            same = np.load(raw)
            times["npy"].append(time.perf_counter() - started)
    order = rows["entity_id"].str.slice(5).cast(int).to_numpy()
    assert np.array_equal(found, same[order])
    ours, plain = (statistics.median(seconds) for seconds in times.values())
    result = {
        "name": "embedding table into a matrix",
        "case": f"{given.rows} x {given.width} float32, one of {len(ENCODERS)} encoders",
        "ours_s": ours,
        "baseline": "numpy.load of a raw .npy file",
        "baseline_s": plain,
        "ratio": plain / ours,
        "floor": 0.5,
        "load_before": os.getloadavg()[0],
        "n_cores": os.cpu_count(),
    }
    keep([result])
    show([result])


if __name__ == "__main__":
    main()

"""Times `genebench evaluate` on a CSV file of vectors, as a person runs it: a process of its own.

    python -m benchmarks.evaluate [--genes 20000] [--width 1024]

Prints the wall time, the processor time and the peak memory of the command, run twice: the second
run reads the result of the first. The vectors are drawn from a seed; the genes are the first of the
reference release.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from genebench.reference.packaged_reference import read_reference_entities


def write_vectors(path: Path, n_genes: int, width: int) -> None:
    """Write a CSV file of random vectors, with Entrez ids."""
    ids = read_reference_entities().head(n_genes).str.strip_prefix("ncbigene:")
    matrix = np.random.default_rng(0).normal(size=(len(ids), width)).astype(np.float32)
    names = [f"d{number}" for number in range(width)]
    pl.DataFrame({"gene": ids}).hstack(pl.DataFrame(matrix, schema=names)).write_csv(path)


def main() -> None:
    """Write the vectors, run the command, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1_024)
    arguments = parser.parse_args()
    command = [str(Path(sys.executable).parent / "genebench"), "evaluate", "vectors.csv"]
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(Path(folder) / "vectors.csv", arguments.genes, arguments.width)
        environment = {**os.environ, "GENEBENCH_CACHE": str(Path(folder) / "results")}
        before = 0.0
        for run in ("first run", "the same command again"):
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, env=environment, check=True)
            seconds = time.perf_counter() - start
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor = used.ru_utime + used.ru_stime
            # The peak is that of the larger run.
            print(
                f"{arguments.genes:,} x {arguments.width:,}, {run}: {seconds:.1f} s, processor "
                f"{processor - before:.1f} s, peak memory {used.ru_maxrss / 1e6:.2f} GB"
            )
            before = processor


if __name__ == "__main__":
    main()

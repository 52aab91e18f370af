"""Bundles: the scores and held-out predictions of encoders as one table, shared as a parquet file.

A bundle has one row for each encoder and task. It holds what another person needs to compare with
these encoders on the same held-out rows, and no vectors.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.digest import digest_bytes, digest_json
from genebench.errors import GenebenchError
from genebench.evaluation.evaluate import REVISION
from genebench.evaluation.metrics import METRICS
from genebench.parquet_files import load_parquet
from genebench.probes.declaration import TEST, FoldOutput, Probe, Problem
from genebench.reference.score_levels import decode_fold, encode_fold, encoded_size

FORMAT = 1

BUNDLE_SCHEMA = pl.Schema(
    {
        "format": pl.Int32(),
        "package": pl.String(),
        "profile": pl.String(),
        "protocol_id": pl.String(),
        "protocol_digest": pl.String(),
        "probe_id": pl.String(),
        "probe_digest": pl.String(),
        "encoder_id": pl.String(),
        "title": pl.String(),
        "description": pl.String(),
        "modality": pl.String(),
        "is_control": pl.Boolean(),
        "n_features": pl.Int64(),
        "vectors_digest": pl.String(),
        "universe_digest": pl.String(),
        "family": pl.String(),
        "task_id": pl.String(),
        "kind": pl.String(),
        "metric": pl.String(),
        "label_digest": pl.String(),
        "split_digest": pl.String(),
        "n_samples": pl.Int64(),
        "fold_scores": pl.List(pl.Float64()),
        "covered": pl.Binary(),
        "fitted": pl.Binary(),
        "predictions": pl.Binary(),
    }
)
KEY = ("encoder_id", "task_id")


def split_digest(problem: Problem) -> str:
    """Digest of the folds of a task."""
    return digest_bytes(np.ascontiguousarray(problem.split).tobytes())


def bundle_probe_digest(probe: Probe) -> str:
    """Digest of the probe and of the revision of the evaluation's arithmetic."""
    return digest_json([probe.digest(), REVISION])


def universe_digest(entity_ids: pl.Series) -> str:
    """Digest of the entities of a universe."""
    return digest_bytes("\n".join(entity_ids.to_list()).encode())


def pack_outputs(problem: Problem, outputs: Sequence[FoldOutput]) -> dict[str, bytes]:
    """Encode the held-out predictions of a task: `predictions` and `fitted` of a bundle.

    The rows of each fold are the held-out samples in order, so they are not stored. Columns that
    were not fitted are stored as 0.
    """
    fitted = np.array([output.fitted for output in outputs])
    return {
        "predictions": b"".join(
            encode_fold(problem.kind, np.where(one.fitted, one.scores, 0.0)) for one in outputs
        ),
        "fitted": np.packbits(fitted).tobytes(),
    }


def unpack_outputs(
    problem: Problem, predictions: bytes, fitted: bytes, covered: npt.NDArray[np.bool_]
) -> list[FoldOutput]:
    """Decode the held-out predictions of a task.

    Args:
        problem: The task with the folds of the reference.
        predictions: The column of a bundle.
        fitted: The column of a bundle.
        covered: (samples,) bool; the samples that the encoder has vectors of.

    Returns:
        One output per fold. Its scores are uint8 levels, or numbers if the task is a regression.

    Raises:
        GenebenchError: The content does not fit the folds.
    """
    n_columns = problem.n_columns
    flags = np.unpackbits(np.frombuffer(fitted, np.uint8))[: problem.n_folds * n_columns]
    if len(flags) < problem.n_folds * n_columns:
        raise GenebenchError(f"{problem.id}: the bundle is damaged: flags of fewer folds")
    outputs, start = [], 0
    zeros = np.zeros(n_columns)
    for fold, is_fitted in enumerate(flags.reshape(problem.n_folds, n_columns).astype(bool)):
        rows = np.flatnonzero((problem.split[:, fold] == TEST) & covered)
        size = encoded_size(problem.kind, len(rows), n_columns)
        part = predictions[start : start + size]
        start += size
        scores = decode_fold(problem.kind, part, len(rows), n_columns)
        outputs.append(
            FoldOutput(rows, scores, is_fitted, {}, zeros, zeros, zeros.astype(np.int64))
        )
    if start != len(predictions):
        raise GenebenchError(f"{problem.id}: the bundle is damaged: predictions of other folds")
    return outputs


def write_bundle(path: Path, bundle: pl.DataFrame) -> None:
    """Write a bundle as a parquet file, through a temporary file in the same folder."""
    temporary = path.with_name(f".{path.name}.tmp")
    frame = bundle.select(pl.col(name).cast(dtype) for name, dtype in BUNDLE_SCHEMA.items())
    try:
        frame.write_parquet(temporary, compression="zstd", compression_level=19)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_bundle(path: Path) -> pl.DataFrame:
    """Read a bundle and check its form: columns, keys, metrics and values.

    Raises:
        GenebenchError: The file is no bundle, is of a newer format, or has impossible values.
    """
    try:
        bundle = load_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise GenebenchError(f"{path}: cannot be read as a bundle: {reason}") from error
    missing = [name for name in BUNDLE_SCHEMA if name not in bundle.columns]
    if missing:
        raise GenebenchError(
            f"{path}: is no bundle of `genebench evaluate --bundle`: it lacks {', '.join(missing)}"
        )
    bundle = bundle.select(BUNDLE_SCHEMA.names())
    for name, dtype in BUNDLE_SCHEMA.items():
        if bundle.schema[name] != dtype:
            raise GenebenchError(f"{path}: column {name} is {bundle.schema[name]}, not {dtype}")
    writer, written = bundle.select("package", "format").row(0) if bundle.height else ("", FORMAT)
    if written != FORMAT:
        raise GenebenchError(
            f"{path}: has format {written}; this version of genebench reads format {FORMAT}; "
            f"install the version that wrote it ({writer})"
        )
    if bundle.select(KEY).is_duplicated().any():
        raise GenebenchError(f"{path}: has two rows of one encoder and task")
    for row in bundle.select("encoder_id", "task_id", "metric", "fold_scores").iter_rows():
        _check_scores(path, *row)
    return bundle


def _check_scores(
    path: Path, encoder_id: str, task_id: str, metric: str, fold_scores: list[float]
) -> None:
    where = f"{path}: {encoder_id}, {task_id}"
    if metric not in METRICS:
        raise GenebenchError(f"{where}: unknown metric {metric!r}")
    declared = METRICS[metric]
    low = -np.inf if declared.low is None else declared.low
    high = np.inf if declared.high is None else declared.high
    values = np.array(fold_scores, dtype=np.float64)
    if not len(values) or not (np.isfinite(values) & (values >= low) & (values <= high)).all():
        raise GenebenchError(
            f"{where}: fold scores {values.tolist()} are not all numbers from {low} to {high}"
        )


def package_version() -> str:
    """The version of genebench that writes a bundle."""
    return f"genebench {version('genebench-lakehouse')}"

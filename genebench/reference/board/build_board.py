"""Builds a static leaderboard from bundles: checks, scores, verdicts, page and tables."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from genebench.errors import GenebenchError
from genebench.evaluation.statistics.means import OVERALL
from genebench.reference.board.board_page import render_board
from genebench.reference.board.board_scores import BoardScores, score_board
from genebench.reference.board.bundle_checks import BoardTasks, CheckedBundle, check_bundle
from genebench.reference.bundle import package_version, read_bundle
from genebench.reference.packaged_reference import (
    BUNDLE_FILE,
    PROBE,
    PROFILE,
    PROTOCOL,
    prepare_reference_tasks,
    reference_folder,
)
from genebench.registry.loading import load_registry

PAGE_FILE = "index.html"


@dataclass(frozen=True)
class Board:
    """A leaderboard.

    Attributes:
        checked: All bundles with the results of their checks, refused ones included.
        scores: Scores and verdicts of all encoders, those of the reference release included.
        leaderboard: One row for each encoder: `encoder_rows`.
    """

    checked: tuple[CheckedBundle, ...]
    scores: BoardScores
    leaderboard: pl.DataFrame

    def refused(self) -> list[CheckedBundle]:
        """The bundles that are not on the leaderboard."""
        return [one for one in self.checked if one.refused]


def build_board(
    paths: Collection[Path],
    folder: Path,
    vectors: Mapping[str, Path] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Board:
    """Check bundles, compare all encoders with each other and write a static site.

    Refused bundles are listed on the page with the reason; they have no scores there.

    Args:
        paths: Bundles written by `genebench evaluate --bundle`.
        folder: Folder of the site. Files written: `index.html`, which needs no other file, and
            `leaderboard.csv`, `tasks.csv`, `verdicts.csv`, `checks.csv`.
        vectors: Encoder id to a file of its vectors, from which some scores are computed again.
        progress: Called with one line of text after each bundle.

    Raises:
        GenebenchError: All bundles are refused, or vectors are given of an encoder that no bundle
            has.
    """
    board = prepare_board_tasks()
    reference = read_bundle(reference_folder() / BUNDLE_FILE)
    checked = check_bundles(paths, board, vectors, progress)
    if all(one.refused for one in checked):
        raise refusal_error(checked)
    bundle = pl.concat([reference, *(one.rows for one in checked if not one.refused)])
    scores = score_board(bundle, board)
    made = Board(tuple(checked), scores, encoder_rows(bundle, scores, checked))
    rules = f"{package_version()}, profile {PROFILE}, protocol {board.protocol.id}"
    _write_site(folder, made, rules)
    return made


def prepare_board_tasks() -> BoardTasks:
    """Prepare the tasks of the package with their folds."""
    registry = load_registry(PROFILE)
    packaged = prepare_reference_tasks()
    protocol = registry.protocols[PROTOCOL]
    problems = {name: task.problem(name, protocol) for name, task in packaged.tasks.items()}
    return BoardTasks(packaged, problems, registry.probes[PROBE], protocol)


def check_bundles(
    paths: Collection[Path],
    board: BoardTasks,
    vectors: Mapping[str, Path] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[CheckedBundle]:
    """Check bundles, with which names are taken; the arguments are those of `build_board`.

    Raises:
        GenebenchError: Vectors are given of an encoder that no bundle has.
    """
    reference = read_bundle(reference_folder() / BUNDLE_FILE)
    given = vectors or {}
    owners = dict.fromkeys(reference["encoder_id"], "the reference release")
    checked = []
    for path in paths:
        one = _refuse_taken_names(check_bundle(path, board, given), owners)
        checked.append(one)
        if progress is not None:
            remarks = [_describe_check(one), *one.remarks]
            progress(f"{path}: " + ("; ".join(remarks) if not one.refused else
                                    f"refused: {one.refused}"))  # fmt: skip
    unknown = sorted(set(given) - set(owners))
    if unknown and not any(one.refused for one in checked):
        raise GenebenchError(f"no bundle has an encoder {unknown[0]!r}, of which vectors are given")
    return checked


def refusal_error(checked: Collection[CheckedBundle]) -> GenebenchError:
    """The error that names all refused bundles with their reasons."""
    refused = [f"{one.path}: {one.refused}" for one in checked if one.refused]
    return GenebenchError(
        f"{len(refused)} of {len(checked)} bundles are refused: {'; '.join(refused)}"
    )


def encoder_rows(
    bundle: pl.DataFrame, scores: BoardScores, checked: Collection[CheckedBundle]
) -> pl.DataFrame:
    """One row for each encoder, best first.

    Returns:
        encoder_id, title, description, modality, is_control, origin, coverage (share of all
        samples), low, high (of overall), against_best (verdict against the best encoder that is
        no control), and one column for `overall` and each family; null where an encoder lacks a
        task of the family.
    """
    origins = {
        encoder_id: _describe_check(one)
        for one in checked
        if not one.refused
        for encoder_id in one.rows["encoder_id"]
    }
    cards = bundle.select("encoder_id", "title", "description", "modality", "is_control").unique(
        "encoder_id", keep="first", maintain_order=True
    )
    coverage = scores.tasks.group_by("encoder_id").agg(
        (pl.col("n_covered").sum() / pl.col("n_samples").sum()).alias("coverage")
    )
    overall = scores.means.filter(pl.col("scope") == OVERALL)
    ranked = overall.join(cards.filter(~pl.col("is_control")), on="encoder_id")
    best = ranked.sort("value", descending=True)["encoder_id"].first()
    against = scores.verdicts.filter(
        (pl.col("scope") == OVERALL) & (pl.col("encoder_id") == pl.lit(best))
    ).select(pl.col("first").alias("encoder_id"), pl.col("verdict").alias("against_best"))
    families = sorted(set(scores.means["scope"]) - {OVERALL})
    wide = scores.means.pivot(on="scope", index="encoder_id", values="value")
    return (
        cards.with_columns(
            pl.col("encoder_id")
            .replace_strict(origins, default="reference release", return_dtype=pl.String())
            .alias("origin")
        )
        .join(coverage, on="encoder_id", how="left")
        .join(overall.select("encoder_id", "low", "high"), on="encoder_id", how="left")
        .join(against, on="encoder_id", how="left")
        .join(wide, on="encoder_id", how="left")
        .select(*cards.columns, "origin", "coverage", OVERALL, "low", "high", "against_best",
                *families)
        .sort(OVERALL, "encoder_id", descending=[True, False], nulls_last=True)
    )  # fmt: skip


def _refuse_taken_names(one: CheckedBundle, owners: dict[str, str]) -> CheckedBundle:
    if one.refused:
        return one
    names = one.rows["encoder_id"].unique().sort().to_list()
    for name in names:
        if name in owners:
            reason = f"{owners[name]} has an encoder {name!r} already; rename one with --name"
            return replace(one, rows=pl.DataFrame(), refused=reason)
    owners |= dict.fromkeys(names, str(one.path))
    return one


def _describe_check(one: CheckedBundle) -> str:
    if one.recomputed:
        return f"scores of {', '.join(one.recomputed)} recomputed from vectors"
    return "scores checked with stored predictions"


def _write_site(folder: Path, board: Board, rules: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    board.leaderboard.write_csv(folder / "leaderboard.csv")
    board.scores.tasks.write_csv(folder / "tasks.csv")
    board.scores.verdicts.write_csv(folder / "verdicts.csv")
    checks = pl.DataFrame(
        {
            "bundle": [one.path.name for one in board.checked],
            "refused": [one.refused for one in board.checked],
            "recomputed": [", ".join(one.recomputed) for one in board.checked],
            "remarks": ["; ".join(one.remarks) for one in board.checked],
        },
        schema=dict.fromkeys(("bundle", "refused", "recomputed", "remarks"), pl.String()),
    )
    checks.write_csv(folder / "checks.csv")
    page = render_board(board.leaderboard, board.scores, checks, rules)
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")

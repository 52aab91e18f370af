"""What a person reads of query results and comparisons in a terminal."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.cli.tables import print_rows

if TYPE_CHECKING:
    import polars as pl

N_SHOWN = 50
# Smaller numbers would be zero with three decimals.
LEAST_SHOWN = 0.0005
SIGNS = (
    "p: after Holm over all pairs of encoders and tasks; *: below 5 % by p and by the test on "
    "folds; –: not tested (a sub-task, another metric than the task's main one)"
)


def print_frame(rows: "pl.DataFrame") -> None:
    """Print the first rows of a frame, and how many there are."""
    shown = [[_short(cell) for cell in row] for row in rows.head(N_SHOWN).iter_rows()]
    print_rows(f"{rows.height:,} rows", rows.columns, shown)
    if rows.height > N_SHOWN:
        _say(f"{N_SHOWN} shown; --output file.csv keeps all")


def print_diff(rows: "pl.DataFrame", before: str, after: str) -> None:
    """Print what moved between two releases, and why, most moved first."""
    if not rows.height:
        _say(f"{before} and {after} name the same evaluations: nothing moved")
        return
    counts = Counter(rows["why"])
    told = ", ".join(f"{n:,} {why}" for why, n in counts.most_common())
    names = ["task_id", "encoder_id", "probe_id", "metric", "mean_before", "mean_after"]
    shown = rows.select(*names, "change", "why").head(N_SHOWN)
    print_rows(f"{before} → {after}: {told}", shown.columns, shown.iter_rows())
    _tell_rest(rows)


def print_comparison(rows: "pl.DataFrame", encoder_a: str, encoder_b: str) -> None:
    """Print two encoders side by side, a row a task."""
    head = [
        *("task", "metric", encoder_a, encoder_b, "difference", "interval", "p"),
        *("sd", f"folds {encoder_a} won"),
    ]
    cells = [
        [
            *(row["task_id"], row["metric"], row["mean_a"], row["mean_b"]),
            *(row["difference"], _interval(row), _short(row["p_adjusted"])),
            *(row["sd"], f"{row['n_folds_won']} of {row['n_folds']}"),
        ]
        for row in rows.head(N_SHOWN).iter_rows(named=True)
    ]
    print_rows(f"{encoder_a} and {encoder_b} on the same folds", head, cells)
    if rows["p_adjusted"].is_not_null().any():
        _say(SIGNS)
    _tell_rest(rows)


def _interval(row: dict[str, Any]) -> str | None:
    if row["low"] is None:
        return None
    return f"{row['low']:+.3f} to {row['high']:+.3f}{' *' if row['is_established'] else ''}"


def print_published(rows: "pl.DataFrame", release: str, published: str) -> None:
    """Print our numbers beside published ones, with verdicts and stated causes."""
    head = ["task", "encoder", "ours", "theirs", "in SDs", "rows ours", "rows theirs", "verdict"]
    cells = [
        [
            *(
                f"{row['task_name']}{'; ' + row['label'] if row['label'] else ''}",
                row["encoder_id"],
            ),
            *(row["ours"], row["theirs"], row["in_sds"], row["n_samples_ours"]),
            *(row["n_samples_theirs"], row["verdict"]),
        ]
        for row in rows.iter_rows(named=True)
    ]
    print_rows(f"release {release} beside {published}", head, cells)
    counts = Counter(rows["verdict"])
    _say(", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    for row in rows.iter_rows(named=True):
        if row["cause"]:
            _say(f"  {row['task_name']}, {row['encoder_id']}: {row['cause']}")


def print_imported(rows: "pl.DataFrame", name: str) -> None:
    """Print the means of an imported release, a row a task and one column an encoder."""
    for (metric, probe), mine in rows.group_by("metric", "probe_name", maintain_order=True):
        wide = mine.pivot(on="encoder_name", index=["task_name", "label"], values="mean")
        by = f", {probe}" if probe else ""
        print_rows(f"{name} (imported): {metric}{by}", wide.columns, wide.iter_rows())


def print_page(folder: str) -> None:
    """Say where the page is."""
    _say(f"page: {Path(folder) / 'index.html'}")


def _tell_rest(rows: "pl.DataFrame") -> None:
    if rows.height > N_SHOWN:
        _say(f"{rows.height - N_SHOWN:,} more rows; --csv file.csv keeps all")


def _say(line: str) -> None:
    Console(soft_wrap=True).print(line, markup=False, highlight=False)


def _short(cell: Any) -> Any:
    """Long lists, such as vectors, by their first numbers; small numbers by their first digits."""
    if isinstance(cell, float) and 0 < abs(cell) < LEAST_SHOWN:
        return f"{cell:.1e}"
    if isinstance(cell, list) and len(cell) > 4:
        return f"[{', '.join(str(one) for one in cell[:4])}, … {len(cell):,}]"
    return cell

"""Changed samples are counted by kind of change and described with the versions compared."""

import polars as pl

from lakehouse.curate.changes import CHANGES_SCHEMA, changed_samples, describe_changes
from lakehouse.tables.catalogue import table


def state(outcomes: dict[str, dict[str, list[str]]], snapshot: str) -> dict[str, pl.DataFrame]:
    """The silver tables of tasks whose samples have labels."""
    samples, labels, tasks = [], [], []
    for task_id, of_task in outcomes.items():
        who = {"family": "genomic", "task_id": task_id}
        for sample, values in of_task.items():
            slot = {"sample_id": sample, "position": 0, "entity_type": "gene", "entity_id": sample}
            samples.append(who | slot)
            labels += [who | {"sample_id": sample, "label": name, "value": 1.0} for name in values]
        digest = str(sorted((k, sorted(v)) for k, v in of_task.items()))
        tasks.append({"task_id": task_id, "label_digest": digest, "snapshot_id": snapshot})
    frames = {"silver.samples": samples, "silver.labels": labels, "silver.tasks": tasks}
    return {name: pl.DataFrame(rows, schema=table(name).schema) for name, rows in frames.items()}


def test_added_removed_and_relabelled_samples_are_counted_separately():
    before = state({"t": {"a": ["x"], "b": ["y"], "c": ["x", "y"], "d": ["x"]}}, "hpa_1")
    now = state({"t": {"a": ["x"], "b": ["z"], "c": ["y"], "e": ["x"], "f": []}}, "hpa_2")
    found = changed_samples(before, now)
    assert found.schema == CHANGES_SCHEMA
    assert found.row(0, named=True) == {
        "task_id": "t",
        "n_before": 4,
        "n_now": 5,
        "n_added": 2,
        "n_gone": 1,
        "n_relabelled": 2,
        "n_labels_gained": 1,
        "n_labels_lost": 2,
        "snapshot_before": "hpa_1",
        "snapshot_now": "hpa_2",
    }


def test_tasks_with_the_same_labels_and_new_tasks_have_no_row():
    before = state({"same": {"a": ["x"]}, "moved": {"a": ["x"]}}, "hpa_1")
    now = state({"same": {"a": ["x"]}, "moved": {"a": ["y"]}, "new": {"a": ["x"]}}, "hpa_2")
    assert changed_samples(before, now)["task_id"].to_list() == ["moved"]
    assert changed_samples(dict.fromkeys(before), now).is_empty()


def test_the_order_of_labels_is_no_change():
    before = state({"t": {"a": ["x", "y"], "b": ["x"]}}, "hpa_1")
    now = state({"t": {"b": ["z"], "a": ["y", "x"]}}, "hpa_1")
    assert changed_samples(before, now)["n_relabelled"].to_list() == [1]


def test_a_change_is_described_with_its_versions():
    snapshots = pl.DataFrame(
        {
            "snapshot_id": ["hpa_1", "hpa_2", "hpa_3"],
            "source": ["hpa"] * 3,
            "version": ["23.0", "24.0", "24.0"],
        }
    )
    old, new = {"t": {"a": ["x"]}}, {"t": {"a": ["y"]}}
    for first, second, expected in (
        ("hpa_1", "hpa_2", "1 samples changed (hpa 23.0 → 24.0): 1 relabelled"),
        ("hpa_2", "hpa_3", "(hpa 24.0, new bytes)"),
        ("hpa_1", "hpa_1", "(declarations or entity catalogue changed)"),
    ):
        found = changed_samples(state(old, first), state(new, second))
        assert expected in describe_changes(found, snapshots)["t"]

"""The chain on a real server: by schedule and events, with a failure, and cancelled."""

import shutil

import pytest
from local_stacks import CHAIN, ENCODERS, ENDED, keys, results, until

from lakehouse import open_lake


def test_a_due_refresh_starts_the_chain(stack, chain):
    assert [(run["deployment"], run["state_name"]) for run in chain] == [
        (verb, "Completed") for verb in CHAIN
    ]
    assert chain[0]["auto_scheduled"]
    board = open_lake(stack.lake).leaderboard_rows("current_paper")
    assert set(board["encoder_id"]) == set(ENCODERS)
    told = stack.artifacts(chain[-1]["id"])
    assert "Bag of words" in told["leaderboard"]
    assert "`gold.leaderboard`" in told["report"]


@pytest.mark.soak
def test_a_due_refresh_starts_the_chain_also_where_nothing_is_new(stack, chain):
    board = open_lake(stack.lake).leaderboard_rows("current_paper")
    # As if a chain had been killed between refresh and curate.
    shutil.rmtree(stack.lake / "silver" / "tasks")
    n_before = len(chain_runs(stack))
    stack.schedule_refresh()
    until(lambda: [run["deployment"] for run in ended(stack)[n_before:]] == CHAIN, 240, stack.tail)
    second = ended(stack)[n_before:]
    assert "0 done, 4 already there" in second[0]["state"]["message"]
    assert [run["state_name"] for run in second] == [
        "NothingNew", "Completed", "NothingNew", "NothingNew", "NothingNew",
    ]  # fmt: skip
    assert open_lake(stack.lake).leaderboard_rows("current_paper").equals(board)


def chain_runs(stack):
    return [run for run in stack.runs() if run["deployment"] in CHAIN]


def ended(stack):
    return [run for run in chain_runs(stack) if run["state_type"] in ENDED]


def test_a_run_with_a_failed_encoder_fails_and_keeps_the_others(stack):
    # The miniature world has fewer genes than tfidf has components.
    lake = stack.folder / "partly"
    run = stack.submit("benchmark", lake=lake, encoders=["random", "tfidf"], families=["genomic"])
    ended = stack.wait(run)
    assert ended["type"] == "FAILED"
    assert "embed tfidf" in ended["message"]
    assert set(results(lake)["encoder_id"]) == {"random"}
    assert "| `tfidf` | refused |" in stack.artifacts(run)["embed"]


def test_a_cancelled_run_leaves_the_lake_whole_and_the_next_does_the_rest(stack, chain):
    lake = stack.folder / "cancelled"
    shutil.copytree(stack.lake, lake)
    shutil.rmtree(lake / "gold")
    shutil.rmtree(lake / "silver")
    what = {"encoders": ENCODERS, "families": ["biological", "localization"]}
    run = stack.submit("benchmark", lake=lake, **what)
    until((lake / "silver" / "embeddings").exists, 300, stack.tail)
    stack.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert stack.wait(run)["type"] == "CANCELLED"
    before = set(keys(lake))
    again = stack.submit("benchmark", lake=lake, **what)
    assert stack.wait(again)["type"] == "COMPLETED"
    assert before < set(keys(lake))
    assert keys(lake) == keys(stack.lake, *what["families"])
    assert results(lake).equals(results(stack.lake, *what["families"]))

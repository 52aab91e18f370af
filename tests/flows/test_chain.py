"""The chain on a real server: by schedule and events, with a failure, and cancelled."""

import datetime as dt
import shutil
from uuid import uuid4

from sites import CHAIN, ENCODERS, keys, results, until

from lakehouse import open_lake


def tell_of_a_score(site):
    """Let the server hear that a run of score has ended."""
    deployment = {
        "prefect.resource.id": f"prefect.deployment.{site.deployment('score')['id']}",
        "prefect.resource.role": "deployment",
        "prefect.resource.name": "score",
    }
    event = {
        "id": str(uuid4()),
        "occurred": dt.datetime.now(dt.UTC).isoformat(),
        "event": "prefect.flow-run.Completed",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{uuid4()}"},
        "related": [deployment],
    }
    site.ask("POST", "/events", [event])


def test_a_due_refresh_starts_the_chain_and_nothing_new_ends_it(site, chain):
    assert [(run["deployment"], run["state_name"]) for run in chain] == [
        (verb, "Completed") for verb in CHAIN
    ]
    assert chain[0]["auto_scheduled"]
    board = open_lake(site.lake).leaderboard_rows("current_paper")
    assert set(board["encoder_id"]) == set(ENCODERS)
    told = site.artifacts(chain[-1]["id"])
    assert "Bag of words" in told["leaderboard"]
    assert "`gold.leaderboard`" in told["report"]

    before = chain_runs(site)
    site.schedule_refresh()
    until(lambda: len(chain_runs(site)) > len(before), 90, site.tail)
    second = chain_runs(site)[-1]
    ended = site.wait(second["id"])
    assert (ended["type"], ended["name"]) == ("COMPLETED", "NothingNew")
    assert "0 done, 4 already there" in ended["message"]
    # Events are heard in order: when a later one has started a run, this one has started none.
    tell_of_a_score(site)
    until(lambda: chain_runs(site)[-1]["deployment"] == "report", 120, site.tail)
    assert site.wait(chain_runs(site)[-1]["id"])["type"] == "COMPLETED"
    after = {run["deployment"] for run in chain_runs(site)[len(before) :]}
    assert after == {"refresh", "report"}


def chain_runs(site):
    return [run for run in site.runs() if run["deployment"] in CHAIN]


def test_a_run_with_a_failed_encoder_fails_and_keeps_the_others(site):
    # The miniature world has fewer genes than tfidf has components.
    lake = site.folder / "partly"
    run = site.submit("benchmark", lake=lake, encoders=["random", "tfidf"], families=["genomic"])
    ended = site.wait(run)
    assert ended["type"] == "FAILED"
    assert "embed tfidf" in ended["message"]
    assert set(results(lake)["encoder_id"]) == {"random"}
    assert "| `tfidf` | refused |" in site.artifacts(run)["embed"]


def test_a_cancelled_run_leaves_the_lake_whole_and_the_next_does_the_rest(site, chain):
    lake = site.folder / "cancelled"
    shutil.copytree(site.lake, lake)
    shutil.rmtree(lake / "gold")
    run = site.submit("benchmark", lake=lake, encoders=ENCODERS)
    until(lambda: keys(lake), 300, site.tail)
    site.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert site.wait(run)["type"] == "CANCELLED"
    before = set(keys(lake))
    again = site.submit("benchmark", lake=lake, encoders=ENCODERS)
    assert site.wait(again)["type"] == "COMPLETED"
    assert before < set(keys(lake))
    assert keys(lake) == keys(site.lake)
    assert results(lake).equals(results(site.lake))

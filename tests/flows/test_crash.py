"""A worker and the server killed in the middle of a run."""

from sites import keys, results, until

from lakehouse import open_lake


def test_killing_worker_and_server_midway_costs_nothing_but_time(site, crash, chain):
    until(lambda: site.state(crash)["type"] == "COMPLETED", 300, site.tail)
    # Its process is found to be gone when the site starts again; nobody has to run it again.
    states = site.ask("GET", f"/flow_run_states/?flow_run_id={crash}")
    assert "its process is gone: run again" in {state["message"] for state in states}
    lake = site.folder / "crashed"
    assert open_lake(lake).table("gold.evaluations").collect()["run_id"].n_unique() == 2
    assert keys(lake) == keys(site.lake)
    assert results(lake).equals(results(site.lake))

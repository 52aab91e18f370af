"""A worker and the server killed in the middle of a run."""

from sites import keys, results, until

from lakehouse import open_lake


def test_killing_worker_and_server_midway_costs_nothing_but_time(site, crash, chain):
    # Found to be gone by its silence, then run again by itself; nobody has to.
    until(lambda: site.state(crash)["type"] == "COMPLETED", 400, site.tail)
    lake = site.folder / "crashed"
    assert site.ask("GET", f"/flow_runs/{crash}")["run_count"] == 2
    assert open_lake(lake).table("gold.evaluations").collect()["run_id"].n_unique() == 2
    assert keys(lake) == keys(site.lake)
    assert results(lake).equals(results(site.lake))

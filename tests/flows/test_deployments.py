"""The deployments: what they declare, and the chain on a real server with real workers."""

import datetime as dt
import importlib
import inspect
import itertools
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from sites import KEYS, Site, keys, results, until
from world import build_world

from lakehouse import open_lake

ROOT = Path(__file__).parents[2]
DECLARED = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
DEPLOYMENTS = {one["name"]: one for one in DECLARED["deployments"]}
CHAIN = ["refresh", "curate", "embed", "score", "report"]


def flow_of(name):
    module, _, function = DEPLOYMENTS[name]["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), function)


def schedule_soon(site, seconds=15):
    """Let refresh be due once, in a few seconds, by a schedule."""
    due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    schedule = {"interval": 7 * 24 * 3600, "anchor_date": due.isoformat()}
    # The scheduler looks at once at deployments that were updated, and each minute at the others.
    schedules = {"schedules": [{"schedule": schedule, "active": True, "slug": "weekly"}]}
    site.ask("PATCH", f"/deployments/{site.deployment('refresh')['id']}", schedules)


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


def test_there_is_a_deployment_for_each_verb_and_one_for_all():
    assert set(DEPLOYMENTS) == {*CHAIN, "benchmark"}


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_every_entrypoint_is_a_flow_that_takes_the_declared_parameters(name):
    from prefect import Flow

    flow = flow_of(name)
    assert isinstance(flow, Flow)
    assert flow.name == name
    assert set(DEPLOYMENTS[name]["parameters"]) <= set(flow.parameters.properties)
    for parameter, said in flow.parameters.properties.items():
        assert said.get("description"), f"{name}: {parameter} has no help"


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_no_flow_module_defers_its_annotations(name):
    source = inspect.getsource(sys.modules[flow_of(name).fn.__module__])
    assert "from __future__ import annotations" not in source


def test_every_choice_of_a_form_is_one_that_the_registry_knows():
    from genebench.registry import load_registry

    registry = load_registry("paper")
    offered = flow_of("score").parameters.properties
    assert set(offered["encoders"]["items"]["enum"]) == set(registry.encoders)
    assert set(offered["probes"]["items"]["enum"]) == set(registry.probes)
    assert set(offered["protocol"]["anyOf"][0]["enum"]) == set(registry.protocols)
    sources = set(flow_of("refresh").parameters.properties["sources"]["items"]["enum"])
    assert set(registry.source_files) | set(registry.sources) <= sources


def test_every_trigger_waits_for_the_verb_before_it():
    for before, name in itertools.pairwise(CHAIN):
        (trigger,) = DEPLOYMENTS[name]["triggers"]
        assert trigger["match_related"] == {
            "prefect.resource.role": "deployment",
            "prefect.resource.name": before,
        }
    assert "prefect.flow-run.NothingNew" not in DEPLOYMENTS["curate"]["triggers"][0]["expect"]


def test_a_deployment_runs_once_at_a_time_and_the_next_run_waits():
    limits = [one["concurrency_limit"] for one in DEPLOYMENTS.values()]
    assert limits == [{"limit": 1, "collision_strategy": "ENQUEUE"}] * len(DEPLOYMENTS)


def test_the_files_for_containers_name_what_exists():
    compose = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())
    assert {"server", "worker", "database"} <= set(compose["services"])
    for service in compose["services"].values():
        if "build" in service:
            context = ROOT / "deployments" / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file()
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{port} is open to everybody"
        for name, value in service.get("environment", {}).items():
            if "AUTH" in name or "PASSWORD" in name:
                assert value.startswith("${"), f"{name} is written into the file"


def test_the_kubernetes_template_asks_for_a_gpu_only_where_told():
    import json

    template = json.loads((ROOT / "deployments" / "kubernetes" / "base-job.json").read_text())
    offered = template["variables"]["properties"]
    manifest = json.dumps(template["job_configuration"])
    assert offered["gpus"]["default"] == 0
    for name in offered:
        assert "{{ " + name + " }}" in manifest, f"{name} is offered but changes nothing"


@pytest.mark.parametrize(
    ("deployment", "parameters"),
    [
        ("score", {"encoders": ["nonsense"]}),
        ("score", {"tasks": ["rna *; rm"]}),
        ("score", {"universe": 3}),
        ("score", {"dry_run": "perhaps"}),
        ("refresh", {"sources": ["hpaa"]}),
        ("benchmark", {"families": ["genomics"]}),
        ("report", {"release": "../else"}),
    ],
)
def test_nonsense_is_refused_before_a_run_starts(site, deployment, parameters):
    before = len(site.runs(deployment))
    path = f"/deployments/{site.deployment(deployment)['id']}/create_flow_run"
    answer = site.call("POST", path, {"parameters": parameters})
    assert answer.status_code == 409
    assert next(iter(parameters)) in answer.text
    assert len(site.runs(deployment)) == before


def test_a_due_refresh_starts_the_chain_and_nothing_new_ends_it(site):
    schedule_soon(site)
    until(
        lambda: any(run["state_type"] == "COMPLETED" for run in site.runs("report")), 400, site.tail
    )
    runs = site.runs()
    assert [run["deployment"] for run in runs] == CHAIN
    assert [run["state_name"] for run in runs] == ["Completed"] * len(CHAIN)
    assert runs[0]["auto_scheduled"]
    board = open_lake(site.lake).leaderboard_rows("current_paper")
    assert set(board["encoder_id"]) == {"bag_of_words", "random"}
    told = site.artifacts(runs[-1]["id"])
    assert "Bag of words" in told["leaderboard"]
    assert "`gold.leaderboard`" in told["report"]

    schedule_soon(site)
    until(lambda: len(site.runs("refresh")) == 2, 90, site.tail)
    second = site.runs("refresh")[-1]
    ended = site.wait(second["id"])
    assert (ended["type"], ended["name"]) == ("COMPLETED", "NothingNew")
    assert "0 done, 4 already there" in ended["message"]
    # Events are heard in order: when a later one has started a run, this one has started none.
    tell_of_a_score(site)
    until(lambda: len(site.runs("report")) == 2, 120, site.tail)
    assert site.wait(site.runs("report")[-1]["id"])["type"] == "COMPLETED"
    assert len(site.runs()) == len(CHAIN) + 2


def test_a_run_with_a_failed_encoder_fails_and_keeps_the_others(site):
    # The miniature world has fewer genes than tfidf has components.
    lake = site.folder / "partly"
    run = site.submit("benchmark", lake=lake, encoders=["random", "tfidf"], families=["genomic"])
    ended = site.wait(run)
    assert ended["type"] == "FAILED"
    assert "embed tfidf" in ended["message"]
    assert set(results(lake)["encoder_id"]) == {"random"}
    assert "| `tfidf` | refused |" in site.artifacts(run)["embed"]


def test_killing_worker_and_server_midway_costs_nothing_but_time(site, tmp_path):
    build_world(tmp_path / "sources")
    calm = Site(tmp_path, tmp_path / "sources")
    undisturbed = calm.start("benchmark", "-e", "bag_of_words", "-e", "random")
    lake = site.folder / "crashed"
    run = site.submit("benchmark", lake=lake, encoders=["bag_of_words", "random"])
    until(lambda: has_evaluations(lake), 300, site.tail)
    doomed = [*site.workers(), site.server()]
    for process in doomed:
        process.kill()
    for process in doomed:
        process.wait(10)
    before = set(keys(lake))
    assert site.run("up")
    assert undisturbed.wait(300) == 0
    # Found to be gone by its silence, then run again by itself; nobody has to.
    until(lambda: site.state(run)["type"] == "COMPLETED", 400, site.tail)
    found = keys(lake)
    assert before < set(found)
    assert len(found) == len(set(found))
    assert results(lake).equals(results(calm.lake))


def has_evaluations(lake):
    try:
        return bool(keys(lake))
    except OSError:
        return False


def test_what_is_deployed_needs_no_file_of_the_checkout(tmp_path):
    code = "import flows.benchmark as b; print(b.benchmark.name)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "benchmark"


def test_scores_are_compared_by_all_that_names_them():
    from lakehouse.tables import TABLES

    assert set(TABLES["gold.scores"].key) <= set(KEYS)

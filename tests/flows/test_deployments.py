"""The deployments: what they declare, and which parameters they refuse."""

import importlib
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from local_stacks import KEYS, VERBS

from genebench.errors import GenebenchError

ROOT = Path(__file__).parents[2]
DECLARED = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
DEPLOYMENTS = {one["name"]: one for one in DECLARED["deployments"]}


def flow_of(name):
    module, _, function = DEPLOYMENTS[name]["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), function)


def test_there_is_a_deployment_for_each_verb_one_for_all_and_one_that_evaluates_vectors():
    assert set(DEPLOYMENTS) == {*VERBS, "benchmark", "evaluate"}


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


def test_every_choice_of_a_parameter_is_known_to_the_registry():
    from genebench.registry.loading import load_registry

    registry = load_registry("paper")
    offered = flow_of("score").parameters.properties
    assert set(offered["encoders"]["items"]["enum"]) == set(registry.encoders)
    assert set(offered["probes"]["items"]["enum"]) == set(registry.probes)
    assert set(offered["protocol"]["enum"]) == {"default", *registry.protocols}
    assert set(offered["tasks"]["items"]["enum"]) >= set(registry.tasks)
    sources = set(flow_of("refresh").parameters.properties["sources"]["items"]["enum"])
    assert set(registry.source_files) | set(registry.sources) <= sources


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_a_choice_has_its_default_chosen_and_no_field_asks_for_its_type(name):
    for parameter, said in flow_of(name).parameters.properties.items():
        assert "anyOf" not in said, f"{name}: {parameter}"
        if "enum" in said:
            assert said["default"] in said["enum"], f"{name}: {parameter}"


def test_the_weekly_run_is_one_run_of_benchmark_that_embeds_on_the_gpu_pool():
    assert [name for name, one in DEPLOYMENTS.items() if one.get("schedules")] == ["benchmark"]
    (weekly,) = DEPLOYMENTS["benchmark"]["schedules"]
    flow, _, name = weekly["parameters"]["embed_deployment"].partition("/")
    assert flow_of(name).name == flow
    assert DEPLOYMENTS[name]["work_pool"]["name"] == "gpu"


def test_no_event_concerns_two_triggers():
    # A server that finds SQLite locked at one trigger hears the event again at all of them.
    from flows.server.provision import automations

    heard = [{*one.trigger.expect, *one.trigger.after} for one in automations()]
    assert sum(map(len, heard)) == len(set.union(*heard))


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


def test_the_kubernetes_template_asks_for_a_gpu_only_if_set():
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
        ("score", {"tasks": ["rna_*"]}),
        ("score", {"task_patterns": ["rna *; rm"]}),
        ("score", {"universe": 3}),
        ("score", {"dry_run": "perhaps"}),
        ("refresh", {"sources": ["hpaa"]}),
        ("benchmark", {"families": ["genomics"]}),
        ("report", {"release": "../else"}),
    ],
)
def test_nonsense_is_refused_before_a_run_starts(stack, deployment, parameters):
    before = len(stack.runs(deployment))
    path = f"/deployments/{stack.deployment(deployment)['id']}/create_flow_run"
    answer = stack.call("POST", path, {"parameters": parameters})
    assert answer.status_code == 409
    assert next(iter(parameters)) in answer.text
    assert len(stack.runs(deployment)) == before


def test_what_is_deployed_needs_no_file_of_the_checkout(tmp_path):
    code = "import flows.benchmark as b; print(b.benchmark.name)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "benchmark"


def test_a_run_of_a_deployment_writes_below_its_working_folder_only(tmp_path, monkeypatch):
    from flows.report import output_path

    monkeypatch.chdir(tmp_path)
    assert output_path("/elsewhere/page").is_absolute()
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a-deployment")
    assert output_path("page/here").name == "here"
    (tmp_path / "link").symlink_to("/")
    for name in ("/elsewhere/page", "../page", "link/page", "~/page"):
        with pytest.raises(GenebenchError, match="below its working folder"):
            output_path(name)


def test_no_form_pins_the_bytes_that_are_trusted():
    assert "lock" not in flow_of("refresh").parameters.properties


def test_the_version_is_known_without_git_and_inside_another_repository(tmp_path, monkeypatch):
    from flows.run import context

    number = version("genebench-lakehouse")
    monkeypatch.setattr(
        context, "__file__", str(tmp_path / "site-packages" / "flows" / "run" / "x")
    )
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    context.code_version.cache_clear()
    assert context.code_version() == number
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    context.code_version.cache_clear()
    assert context.code_version() == number
    context.code_version.cache_clear()


def test_scores_are_compared_by_all_that_names_them():
    from lakehouse.tables.catalogue import TABLES

    assert set(TABLES["gold.scores"].key) <= set(KEYS)

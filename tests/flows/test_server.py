"""The local server: login, starting it again, and stopping exactly what was started."""

import signal
import stat
import sys
import time
from dataclasses import asdict, replace

import psutil
import pytest
from local_stacks import LocalStack, until

from flows.run.summary import RunSummary, Unfinished
from flows.server import local_server
from flows.server.local_server import free_port
from flows.server.processes import RecordedProcess, read_record, start_process, write_record
from genebench.errors import GenebenchError


def test_a_call_without_a_login_is_refused(stack):
    asked = ("POST", "/flow_runs/filter", {})
    assert stack.call_as(None, *asked).status_code == 401
    assert stack.call_as(("genebench", "guess"), *asked).status_code == 401
    assert stack.call(*asked).status_code == 200


def test_only_the_owner_can_read_the_login(stack):
    assert stat.S_IMODE((stack.home / "auth").stat().st_mode) == 0o600
    assert len(stack.login.partition(":")[2]) > 20


def test_the_server_listens_on_loopback_only(stack):
    addresses = {
        one.laddr.ip for one in stack.server().net_connections() if one.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_the_server_sends_no_telemetry(stack):
    assert stack.ask("GET", "/admin/settings")["server"]["analytics_enabled"] is False


def test_a_second_up_changes_nothing(stack):
    def everything():
        return (
            stack.server().pid,
            # The workers alone: a run of an earlier test may still be ending below one of them.
            sorted(entry["pid"] for entry in read_record(stack.home / "workers.json").values()),
            sorted(one["id"] for one in stack.ask("POST", "/deployments/filter", {})),
            sorted(one["name"] for one in stack.ask("POST", "/automations/filter", {})),
            sorted(one["name"] for one in stack.ask("POST", "/work_pools/filter", {})),
        )

    before = everything()
    said = stack.up()
    assert f"http://127.0.0.1:{stack.port}" in said
    assert stack.login not in said
    assert everything() == before


def test_a_command_uses_the_server_that_is_up_and_leaves_it_running(stack, tmp_path):
    # The server adds runs by the clock at any time; those that ended are the commands' own.
    ended = {
        "flows": {"name": {"any_": ["refresh"]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    before = len(stack.ask("POST", "/flow_runs/filter", ended))
    replace(stack, more={"GENEBENCH_LAKE": str(tmp_path / "lake")}).run("refresh")
    assert len(stack.ask("POST", "/flow_runs/filter", ended)) == before + 1
    assert stack.server().is_running()


def test_down_ends_nothing_that_up_did_not_start(tmp_path):
    bystander, child = start_process("bystander", ["sleep", "600"], {}, tmp_path / "log")
    reused = RecordedProcess("worker default", child.pid, bystander.started_at - 3600)
    one = LocalStack(tmp_path, tmp_path)
    one.home.mkdir()
    write_record(one.home / "workers.json", {"worker default": reused})
    assert "nothing of it was running" in one.run("down")
    assert child.poll() is None
    bystander.stop(5.0)
    until(lambda: child.poll() is not None, 120)


def test_a_port_that_is_taken_is_said_so(stack, tmp_path):
    other = LocalStack(tmp_path, tmp_path, port=stack.port)
    process = other.start("up")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"port {stack.port} is taken" in said
    assert "PREFECT_SERVER_API_PORT" in said


BUSY = """
import http.server, sys
class Busy(http.server.BaseHTTPRequestHandler):
    n_asked = 0
    def do_GET(self):
        Busy.n_asked += 1
        self.send_response(200 if Busy.n_asked > 3 else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Busy).serve_forever()
"""


def test_a_busy_server_is_waited_for_and_a_stopped_one_is_an_error(tmp_path, monkeypatch):
    port = free_port()
    process, child = start_process(
        "server", [sys.executable, "-c", BUSY, str(port)], {}, tmp_path / "log"
    )
    busy = local_server.Server(f"http://127.0.0.1:{port}/api", process, is_kept=False)
    write_record(tmp_path / "server.json", asdict(busy))
    until(lambda: not local_server.is_free(port), 120)
    try:
        assert local_server.find_server(tmp_path) == busy
        monkeypatch.setattr(local_server, "START_SECONDS", 0.5)
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(GenebenchError, match=r"has not answered for .* `genebench down` stops"):
            local_server.find_server(tmp_path)
    finally:
        child.send_signal(signal.SIGCONT)
        local_server.stop_server(tmp_path)
    child.wait(120)
    assert local_server.find_server(tmp_path) is None


def test_a_stopped_process_takes_what_it_started_along(tmp_path):
    script = "sleep 600 & echo $! > child; wait"
    one, child = start_process(
        "parent", ["bash", "-c", f"cd {tmp_path}; {script}"], {}, tmp_path / "log"
    )
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip(), 120)
    grandchild = psutil.Process(int((tmp_path / "child").read_text()))
    one.stop(1.0)
    child.wait(120)
    assert not one.is_alive
    until(lambda: not grandchild.is_running(), 120)


def test_an_unreadable_record_counts_as_none(tmp_path):
    (tmp_path / "server.json").write_text('{"url": "http')
    assert read_record(tmp_path / "server.json") == {}


def test_what_a_run_could_not_do_survives_the_way_from_a_worker():
    import pickle

    error = Unfinished(RunSummary("embed", done={"random": "1"}), {"esm2": "no weights"})
    again = pickle.loads(pickle.dumps(error))
    assert again.failures == error.failures
    assert again.summary.done == {"random": "1"}
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "score"),
        (
            {"encoders": ["minilm", "esm2"], "families": ["genomic"]},
            "score minilm, esm2 on genomic",
        ),
        ({"encoders": list("abcdef"), "dry_run": True}, "score a, b, c, d and 2 more (dry run)"),
        ({"vectors": "https://example.org/a/mine.csv?v=2"}, "score mine.csv"),
    ],
)
def test_a_run_is_named_by_what_it_does(parameters, expected):
    from flows.run.run_names import describe_run

    assert describe_run("score", parameters) == expected


def test_a_process_whose_parent_never_asks_for_its_exit_code_is_not_waited_for(tmp_path):
    patience = 60.0
    # The shell becomes `sleep`, which waits for no child.
    script = f"cd {tmp_path}; sleep 600 & echo $! > child; exec sleep 600"
    parent, child = start_process("parent", ["bash", "-c", script], {}, tmp_path / "log")
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip(), 120)
    # A shell would ask for the exit code.
    until(lambda: psutil.Process(parent.pid).name() == "sleep", 120)
    orphan = psutil.Process(int((tmp_path / "child").read_text()))
    one = RecordedProcess("orphan", orphan.pid, orphan.create_time())
    began = time.monotonic()
    one.stop(patience)
    assert time.monotonic() - began < patience
    assert orphan.status() == psutil.STATUS_ZOMBIE
    assert not one.is_alive
    parent.stop(patience)
    child.wait(120)

"""Commands and webhooks that are told of a real run, over loopback."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import Run, sflow_ctl, wait_until

SECRET = "hunter2-and-more"
WORKFLOW = """version: "0.1"
secrets: [WORD]
variables: {WORD: hunter2-and-more, HOOK: "HOST"}
workflow:
  name: w
  notify:
    - {webhook: "${{ variables.HOOK }}/all", when: [ready, failure, end]}
    - {webhook: "${{ variables.HOOK }}/refused"}
    - {webhook: "${{ variables.HOOK }}/slow", when: [ready, end], timeout: 500ms}
    - {command: "cat > told.json; echo $SFLOW_NOTICE $SFLOW_RUN_OUTCOME $SFLOW_RUN_EXIT_STATUS $SFLOW_RUN_ID > told.txt"}
    - {command: "sleep 60", timeout: 300ms}
    - {command: ["false"], when: failure}
    - {command: "/no/such/program; echo hunter2-and-more; exit 3", when: end}
  tasks:
    - {name: web, kind: service, script: "echo up; sleep 600", probes: {readiness: {log_watch: {match_pattern: up}}}}
    - {name: job, script: "echo hunter2-and-more; exit 3", depends_on: web}
"""


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted; answers `/refused` with 500, and `/slow` not at all."""

    posted: list[tuple[str, dict[str, Any]]]
    release: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((self.path, json.loads(body)))
        if self.path == "/slow":
            self.release.wait(30)
        self.send_response(500 if self.path == "/refused" else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(HTTPServer):
    def process_request(self, request: Any, client_address: Any) -> None:
        threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        ).start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.finish_request(request, client_address)
        self.shutdown_request(request)


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[list[tuple[str, dict[str, Any]]], str, Path]]:
    """What was posted, all that the run printed, and its workspace."""
    directory = tmp_path_factory.mktemp("notices")
    handler = type("OfTest", (Hook,), {"posted": [], "release": threading.Event()})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        (directory / "w.yaml").write_text(WORKFLOW.replace("HOST", f"http://127.0.0.1:{server.server_port}"))
        ended = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=directory, env={"no_proxy": "*"})
        assert ended.returncode == 1, ended.stdout + ended.stderr
        yield handler.posted, ended.stdout + ended.stderr, directory  # type: ignore[attr-defined]
    finally:
        handler.release.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()


Told = tuple[list[tuple[str, dict[str, Any]]], str, Path]


def test_a_webhook_gets_each_event_it_asks_for_once(told: Told) -> None:
    posted, _, directory = told
    mine = [body for path, body in posted if path == "/all"]
    assert sorted(body["event"] for body in mine) == ["end", "failure", "ready"]
    by_event = {body["event"]: body for body in mine}
    assert by_event["failure"]["task"] == "job"
    assert by_event["end"]["outcome"] == "failed"
    assert by_event["end"]["exit_status"] == 1
    assert by_event["end"]["directory"] == str(directory / "sflow_output/r")
    assert "task job failed: exit status 3" in by_event["end"]["text"]


def test_a_command_has_the_facts_in_its_environment_and_on_its_input(told: Told) -> None:
    _, _, directory = told
    assert (directory / "told.txt").read_text() == "end failed 1 r\n"
    assert json.loads((directory / "told.json").read_text())["event"] == "end"


def test_a_notice_that_failed_is_said_on_the_console_and_in_the_log(told: Told) -> None:
    _, text, directory = told
    log = (directory / "sflow_output/r/sflow.log").read_text()
    for said in (
        "notify webhook of 127.0.0.1 was not told of end: HTTP 500 ",
        "notify webhook of 127.0.0.1 was not told of end: no answer within 0.5 s",
        "notify command 'sleep 60' was not told of end: it was killed after 0.3 s",
        "notify command 'false' was not told of failure: exit status 1",
    ):
        assert said in text
        assert said in log


def test_secrets_are_masked_in_notices(told: Told) -> None:
    posted, text, directory = told
    assert SECRET not in json.dumps(posted)
    assert SECRET not in text
    assert "exit status 3: ***WORD***" in text
    assert not [
        path
        for path in (directory / "sflow_output").rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


def test_a_takeover_repeats_no_notice_and_misses_none(tmp_path: Path) -> None:
    """What the killed controller has said, its successor does not say again."""
    text = """version: "0.1"
workflow:
  name: w
  notify: [{command: "echo $SFLOW_NOTICE >> told.txt", when: [ready, failure, end]}]
  tasks:
    - {name: web, kind: service, script: "echo up; sleep 600", probes: {readiness: {log_watch: {match_pattern: up}}}}
    - {name: job, script: "until [ -e go ]; do sleep 0.05; done; exit 3", depends_on: web}
"""
    run = Run.start(text, tmp_path)
    told = tmp_path / "told.txt"
    try:
        run.wait_for("job", "running")
        wait_until(lambda: told.exists() and "ready\n" in told.read_text(), "the first notice")
        first = run.kill_controller()
        wait_until(lambda: run.controller not in (first, run.process.pid), "another controller")
        wait_until(lambda: any(entry.takeover for entry in run.entries()), "it has taken over")
        (tmp_path / "go").touch()
        status, said = run.finish()
        assert status == 1, said
        assert sorted(told.read_text().split()) == ["end", "failure", "ready"]
    finally:
        run.kill()


def test_mail_and_notices_of_tasks(tmp_path: Path) -> None:
    mail = tmp_path / "bin" / "mail"
    mail.parent.mkdir()
    mail.write_text('#!/bin/sh\n{ echo "$@"; cat; } > "$MAILBOX"\n')
    mail.chmod(0o755)
    (tmp_path / "sflow.yaml").write_text(
        """version: "0.1"
workflow:
  name: w
  on_failure: continue
  notify:
    - {mail: me@example.org, when: [afterok]}
    - {command: 'echo "$SFLOW_NOTICE $SFLOW_NOTICE_TASK" >> tasks.txt', when: task_finished, task: "t*"}
    - {command: 'echo wrong > wrong.txt', when: run_failed}
  tasks:
    - {name: train, script: "true"}
    - {name: test, depends_on: train, script: "false"}
    - {name: other, script: "true"}
"""
    )
    env = {"PATH": f"{mail.parent}:{os.environ['PATH']}", "MAILBOX": str(tmp_path / "box")}
    done = sflow_ctl("run", "--quiet", "--run-id", "r", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    options, text, counts, summary = (tmp_path / "box").read_text().splitlines()
    assert options == "-s r end me@example.org"
    assert text.startswith("w completed after")
    assert json.loads(counts) == {"completed": 2, "failed": 1}
    assert json.loads(Path(summary).read_text())["run_id"] == "r"
    assert (tmp_path / "tasks.txt").read_text().splitlines() == ["task_succeeded train", "task_failed test"]
    assert not (tmp_path / "wrong.txt").exists()


STALLS = """version: "0.1"
workflow:
  name: w
  notify: {command: "echo $SFLOW_NOTICE $SFLOW_NOTICE_TASK >> told", when: [progress_stalled, task_failed], after: 1s, task: "s*"}
  tasks:
    - {name: slow, script: ["echo begin; until grep -qs slow told; do sleep 0.05; done; echo end"]}
    - {name: other, script: ["sleep 1.5"]}
"""


def test_a_task_that_prints_nothing_causes_a_notice_and_continues(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(STALLS)
    ended = sflow_ctl("run", "w.yaml", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "told").read_text() == "progress_stalled slow\n"
    assert "warning: slow#1 has made no progress for 1" in ended.stdout

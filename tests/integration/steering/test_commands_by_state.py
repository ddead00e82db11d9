"""Every command about a run, by what has become of the run: live, ended, or left by a controller that was killed.

One table; `docs/operating.md` has the same for people.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import Run, command, nothing_left, sflow_ctl, wait_until

LIVE = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: srv
      script: ["trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"]
      probes: {readiness: {log_watch: {regex_pattern: "re:^up$"}}}
    - {name: bench, script: ["echo hello; sleep 600"], depends_on: [srv]}
    - {name: rest, script: ["sleep 600"], replicas: 2}
    - {name: done, script: ["echo done"], outputs: [{pattern: "do{what}"}]}
"""
ENDED = LIVE.replace("echo hello; sleep 600", "echo hello; exit 3").replace('"sleep 600"', '"true"')
OVER = (2, r"the run ended has already ended\n  hint:  sflow-ctl status ended")
DIED = (3, r"killed died: controller pid .* is gone.*\n  hint:  .*run --resume killed")
Answer = tuple[int, str]
FOLLOWS: Answer = (130, "")
"""It follows the run until it is interrupted."""


class Row(NamedTuple):
    """A command, and its exit status and text for each state of the run."""

    words: str
    live: Answer
    ended: Answer
    killed: Answer


TABLE = [
    Row("status RUN", (0, r"(?s)live is running.*\nsrv +ready"), (0, r"ended: failed"), (0, r"(?s)killed died.*\nsrv +lost")),
    Row("status RUN --json", (0, '"liveness": "running"'), (0, '"exit_status": 1'), (0, '"liveness": "dead"')),
    Row("logs --run RUN bench", (0, "^hello\n$"), (0, "^hello\n$"), (0, "^hello\n$")),
    Row("logs --run RUN bench done --timestamps", (0, r"\[done\].*\n\[bench\]"), (0, "hello"), (0, "hello")),
    Row("logs --run RUN bench -f", FOLLOWS, (0, "^hello\n$"), (0, "^hello\n$")),
    Row("logs --run RUN bench --attempt 2", *[(2, "unknown-attempt.: bench has 1 attempt\n  hint: .*--attempt all")] * 3),
    Row("events RUN --task bench", (0, "bench#1 starting -> running"), (0, "running -> failed"), (0, "-> running")),
    Row("events RUN -f --task bench", FOLLOWS, (0, "running -> failed"), (0, "-> running")),
    Row("wait RUN --timeout 2", (124, "live has not ended within 2 s: srv is ready"), (1, "ended: failed"),
        (3, "killed died: controller pid .* is gone.*\nnext: sflow-ctl run --resume")),
    Row("wait RUN done", (0, "done: completed"), (0, "done: completed"), (0, "done: completed")),
    Row("wait RUN bench --timeout 2", (124, "bench is running"), (3, "bench: failed, exit status 3"), (3, "killed died")),
    Row("wait RUN --for ready --timeout 20", (0, "ready: srv"), (143, "srv is not ready: cancelled"), (3, "killed died")),
    Row("explain RUN", (0, "nothing waits"), (0, "task bench failed: exit status 3"),
        (0, r"srv lost after [\d.]+ s\n.*its controller died")),
    Row("explain RUN bench", (0, "bench is running"), (0, "bench failed after"), (0, "bench lost")),
    Row("top RUN", (0, "srv +ready"), (0, "^ended: failed"), (0, "^killed died")),
    Row("attach RUN", FOLLOWS, (1, "task bench failed: exit status 3"), (3, "killed died")),
    Row("report RUN -o r.html", (0, "r.html: "), (0, "r.html: "), (0, "r.html: ")),
    Row("export RUN --to csv", (0, "Exported 5 tasks of 1 run"), (0, "Exported 5 tasks"), (0, "Exported 5 tasks")),
    Row("export RUN --to csv --json", *[(0, '"records": 5')] * 3),
    Row("bundle RUN -o RUN.tar.gz --json", (0, '"run_id": "live"'), (0, '"run_id": "ended"'), (0, '"run_id": "killed"')),
    Row("bundle RUN", (0, "sflow-bundle-.*.tar.gz: "), (0, "sflow-bundle-.*.tar.gz: "), (0, "sflow-bundle-.*.tar.gz: ")),
    Row("clean --keep 0 --dry-run", *[(0, "(?s)ended.*killed stays: it died .*live stays: controller")] * 3),
    Row("exec RUN srv -- echo inside", (0, "^inside\n$"), (2, "hint:  sflow-ctl logs --run ended srv"), DIED),
    Row("signal RUN srv HUP", (0, "srv gets SIGHUP"), OVER, DIED),
    Row("pause RUN", (0, "the run is paused"), OVER, DIED),
    Row("unpause RUN", (0, "tasks start again"), OVER, DIED),
    Row("retry RUN done --only", (0, "done"), (2, "sflow-ctl rerun ended done runs them again"), DIED),
    Row("restart RUN rest_1", (0, "rest_1 is being stopped, and starts again"), (2, "sflow-ctl rerun ended rest_1"), DIED),
    Row("scale RUN rest 3", (0, "revision 2 applied: new rest_2"), (2, "sflow-ctl run WORKFLOW --resume ended"), DIED),
    Row("scale RUN done 3", (2, "not-scalable"), (2, "sflow-ctl run WORKFLOW --resume ended"), DIED),
    Row("apply RUN live.yaml --dry-run", (0, "rest_2  is stopped"), (2, "--resume ended"), DIED),
    Row("apply RUN live.yaml", (0, "revision 3 applied: removed rest_2"), (2, "--resume ended"), DIED),
    Row("rerun RUN --dry-run", (2, "live is running: what it has not run yet"), (0, "bench  <- srv"), (0, "bench  <- srv")),
    Row("replay RUN --dry-run", (0, "Workflow w: 5 tasks"), (0, "Workflow w: 5 tasks"), (0, "Workflow w: 5 tasks")),
    Row("run --resume RUN --dry-run", (2, "live is running|may be running|still"), (0, "5 tasks"), (0, "5 tasks")),
    Row("stop RUN bench", (0, "bench is being stopped"), OVER, DIED),
    Row("cancel RUN --json", (0, '"run_id": "live"'), OVER, DIED),
    Row("stop RUN", (2, "the run live has already ended"), OVER, DIED),
]  # fmt: skip
"""In this order: the last rows end the live run."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a run of each kind."""
    place = tmp_path_factory.mktemp("states")
    killed = Run.start(LIVE, place, run_id="killed")
    runs = [killed]
    try:
        killed.wait_for("bench", "running")
        killed.wait_for("done", "completed")
        killed.kill_both()
        killed.process.wait()
        nothing_left(killed)
        (place / "ended.yaml").write_text(ENDED)
        assert sflow_ctl("run", "ended.yaml", "--run-id", "ended", cwd=place).returncode == 1
        runs.append(live := Run.start(LIVE, place, run_id="live"))
        live.wait_for("bench", "running")
        live.wait_for("done", "completed")
        yield place
    finally:
        for run in runs:
            run.kill()


def check(place: Path, words: str, run: str, expected: Answer) -> None:
    """Run a command, and compare its status and all that it says."""
    status, text = expected
    argv = [word.replace("RUN", run) for word in words.split()]
    if expected == FOLLOWS:
        follows(place, argv)
        return
    done = sflow_ctl(*argv, cwd=place)
    said = done.stdout + done.stderr
    assert (done.returncode, bool(re.search(text, said, re.MULTILINE))) == (status, True), (
        f"{' '.join(argv)}: {done.returncode}\n{said}"
    )


def follows(place: Path, argv: list[str]) -> None:
    """Check that a command prints something of the run, and waits for more until it is interrupted."""
    with (place / "followed").open("w+") as said:
        process = subprocess.Popen(command(*argv), cwd=place, stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: "bench" in (text := Path(said.name).read_text()) or "hello" in text, f"{argv}")
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.words.replace(" ", "_"))
def test_a_command_by_what_has_become_of_the_run(row: Row, place: Path) -> None:
    check(place, row.words, "ended", row.ended)
    check(place, row.words, "killed", row.killed)
    check(place, row.words, "live", row.live)

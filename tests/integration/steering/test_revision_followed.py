"""Whoever looks at a run sees its next plan as soon as it is in force: the reader, `attach`, and the full-screen view."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from sflow_ctl.cli.tui.app import RunApp
from sflow_ctl.cli.tui.dialogs import Leaving
from sflow_ctl.runtime.record.reader import RunReader
from tests.integration.looking.test_tui import has, until, view
from tests.support import Run, command, sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
workflow:
  name: w
  keep_alive: true
  tasks:
    - name: srv
      script: ["echo up; exec sleep 600"]
      probes: {readiness: {log_watch: {regex_pattern: "re:^up$"}}}
    - {name: bench, depends_on: [srv], script: ["echo first; exec sleep 600"]}
    - {name: warmup, depends_on: [srv], script: ["exec sleep 600"]}
"""


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Run]:
    """A server, its clients, and the file of another workflow."""
    run = Run.start(WORKFLOW, tmp_path, run_id="live")
    other = WORKFLOW.replace("first", "second").replace(
        'warmup, depends_on: [srv], script: ["exec', 'eval, depends_on: [srv], script: ["echo of eval; exec'
    )
    (tmp_path / "other.yaml").write_text(other)
    try:
        run.wait_for("bench", "running")
        run.wait_for("warmup", "running")
        yield run
    finally:
        run.kill()


def apply(place: Path, *words: str) -> None:
    done = sflow_ctl(*words, cwd=place)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("is_brief", [False, True])
def test_a_reader_has_the_tasks_of_the_revision(is_brief: bool, live: Run, tmp_path: Path) -> None:
    reader = RunReader(live.directory)
    reader.begin_from_snapshot(is_brief=is_brief)
    reader.refresh()
    apply(tmp_path, "apply", "live", "other.yaml")

    def states() -> dict[str, str]:
        reader.refresh()
        return {name: str(record.state) for name, record in reader.state.tasks.items()}

    def again() -> bool:
        return states()["bench"] == "running" and reader.state.tasks["bench"].attempts == 2

    wait_until(lambda: states().get("eval") == "running", "it has the new task")
    wait_until(lambda: states()["warmup"] == "cancelled", "and the end of the removed one")
    assert reader.head.revision == 2
    assert reader.plan.tasks[1].script == "echo second; exec sleep 600"
    wait_until(again, "and the next attempt of the changed one")


LOOP = """version: "0.1"
workflow:
  name: w
  blocks:
    step:
      inputs: {n: int}
      outputs: {n: "${{ task.work.outputs.n }}"}
      tasks:
        work:
          script: ['until [ -e go$SFLOW_ITERATION ]; do sleep 0.05; done; echo "{\\"n\\": 1}" > $SFLOW_OUTPUTS_FILE']
          outputs: {n: {type: int}}
  tasks:
    learn: {block: step, with: {n: 0}, loop: {max_iterations: 3, at_limit: succeed}}
"""


def test_a_reader_has_the_iterations_of_a_loop_as_they_begin(tmp_path: Path) -> None:
    run = Run.start(LOOP, tmp_path, run_id="loop")
    try:
        run.wait_for("learn_0.work", "running")
        reader = RunReader(run.directory)
        reader.refresh()
        for iteration in range(3):
            name = f"learn_{iteration}.work"

            def is_running(name: str = name) -> bool:
                reader.refresh()
                record = reader.state.tasks.get(name)
                return record is not None and str(record.state) == "running"

            wait_until(is_running, f"iteration {iteration} is seen")
            planned = {task.name: task for task in reader.plan.tasks}
            assert planned[name].frame is not None
            assert planned["learn"].block is not None
            assert planned["learn"].block.iteration == iteration
            assert reader.state.plan is reader.plan
            (tmp_path / f"go{iteration}").touch()
        status, output = run.finish()
        assert status == 0, output
        assert len((run.directory / ".sflow/plan_growth.jsonl").read_bytes().splitlines()) == 4
        assert not list((run.directory / ".sflow").glob("plans/*.json")), "nothing is written as a whole"
    finally:
        run.kill()


def test_attach_shows_new_tasks_and_new_attempts(live: Run, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with seen.open("w") as file:
        attached = subprocess.Popen(command("attach", "live"), cwd=tmp_path, stdout=file, stderr=file)
    try:
        wait_until(lambda: "first" in seen.read_text(), "it is attached")
        apply(tmp_path, "apply", "live", "other.yaml")
        wait_until(lambda: "of eval" in seen.read_text(), f"the output of the new task: {seen.read_text()}")
        wait_until(lambda: "second" in seen.read_text(), f"and of the new attempt: {seen.read_text()}")
        apply(tmp_path, "stop", "live")
        attached.wait(30)
        text = seen.read_text()
        rows = {line.split()[0]: line.split()[1:3] for line in text.splitlines() if line.strip()}
        assert rows["warmup"] == ["cancelled", "removed"], text
        assert "eval" in rows
    finally:
        attached.kill()


def test_the_full_screen_view_shows_new_tasks_and_what_was_changed(live: Run, tmp_path: Path) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "bench", "warmup"), "the tasks")
        await asyncio.to_thread(apply, tmp_path, "apply", "live", "other.yaml")
        await until(pilot, has(app, "eval"), "the new task")
        await until(pilot, has(app, "removed"), "and why the old one has ended")

    view(live, act)

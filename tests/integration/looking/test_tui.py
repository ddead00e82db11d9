"""The full-screen view on runs of every kind: with textual's pilot, and in a real terminal."""

import asyncio
import errno
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from protocol.errors import UsageError
from sflow_ctl.cli.commands.attach import say_end
from sflow_ctl.cli.start.own_run import OwnRun
from sflow_ctl.cli.tui.app import RunApp
from sflow_ctl.cli.tui.ascii_driver import ascii_text
from sflow_ctl.cli.tui.dialogs import Confirm, Help, Leaving
from sflow_ctl.cli.tui.feed import Feed, LogLine
from sflow_ctl.cli.tui.log_view import MAX_LINES, LogView
from sflow_ctl.cli.tui.steering import RunSteering, Verb
from sflow_ctl.cli.tui.tables import short_name
from sflow_ctl.report.summary import Summary
from sflow_ctl.runtime.journal.entry import Entry
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import Claim, encode_claim
from sflow_ctl.runtime.record.processes import process_start_ticks
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.supervision.detaching import STOPPING
from tests.support import PATIENCE_S, Run, command, marked, sflow_ctl, wait_until

Act = Callable[[RunApp, Pilot[Leaving]], Awaitable[None]]


class Told:
    """Takes note of what would be changed."""

    def __init__(self, refuses: str = "") -> None:
        self.done: list[tuple[Verb, tuple[str, ...], str]] = []
        self._refuses = refuses

    def act(self, verb: Verb, tasks: tuple[str, ...], argument: str) -> str:
        if self._refuses:
            raise UsageError.of("request-refused", self._refuses)
        self.done.append((verb, tasks, argument))
        return f"{verb}: done"


def view(
    run: Run, act: Act, steering: Told | None = None, *, size: tuple[int, int] = (80, 24), owns: bool = False
) -> RunApp:
    """Show a run on a screen of this size, and do something with it."""
    feed = Feed(RunReader(run.directory))
    app = RunApp(feed, run.directory, steering or RunSteering(run.directory), owns_run=owns)

    async def whole() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await act(app, pilot)

    try:
        asyncio.run(whole())
    finally:
        feed.close()
    return app


async def until(pilot: Pilot[Leaving], condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{screen_text(pilot.app)}"
        await pilot.pause(0.05)


def screen_text(app: object) -> str:
    """Everything on the screen."""
    assert isinstance(app, RunApp)
    return "\n".join(
        "".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()
    )


def has(app: RunApp, *texts: str) -> Callable[[], bool]:
    return lambda: all(text in screen_text(app) for text in texts)


def cursor_on(app: RunApp, row: int) -> None:
    app.query_one("#task-table", DataTable).move_cursor(row=row)


class Screen:
    """A command in a real terminal."""

    def __init__(self, *arguments: str, cwd: Path, **env: str) -> None:
        self._ours, self._theirs = pty.openpty()
        self._before = self._settings()
        self.seen = b""
        self._process = subprocess.Popen(
            command(*arguments),
            cwd=cwd,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={**os.environ, "TERM": "xterm-256color", "LINES": "30", "COLUMNS": "100", **env},
            start_new_session=True,
        )

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def wait_for(self, text: bytes) -> None:
        wait_until(lambda: text in self._read() or self._process.poll() is not None, text.decode())
        assert text in self.seen, self.seen

    def finish(self) -> int:
        """The exit status, once the terminal is as it was."""
        wait_until(lambda: (self._read(), self._process.poll())[1] is not None, "the end")
        self._read()
        after = self._settings()
        os.close(self._theirs)
        os.close(self._ours)
        assert self._before == after
        return self._process.returncode

    def _read(self) -> bytes:
        while select.select([self._ours], [], [], 0.02)[0]:
            self.seen += os.read(self._ours, 65536)
        return self.seen

    def _settings(self) -> bytes:
        return subprocess.run(["stty", "-a"], stdin=self._theirs, capture_output=True, check=True).stdout


def test_a_live_run_on_80_by_24(live: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(
            pilot, has(app, "srv", "running", '"^up$" is not in the log', "1 failed, 1/6"), "the tasks"
        )
        await until(pilot, has(app, "log of srv", "loading"), "the log of the first task")
        assert has(app, "space Pin ", "i Info ", "r Restart", "^p palette")(), screen_text(app)  # none is cut
        (live.directory.parent.parent / "up").touch()
        await until(pilot, has(app, "completed", "ready"), "news")
        await pilot.press("2")
        await until(pilot, has(app, "localhost", "joined", "0 srv"), "the nodes")
        await pilot.press("3")
        await until(pilot, has(app, "  cli", "ALSO WAITS FOR"), "the graph")
        await pilot.press("4")
        await until(pilot, has(app, "srv#1 running -> ready"), "the changes")
        await pilot.press("1", "i")
        await until(pilot, has(app, "details of srv", "Command", "sleep 600"), "the details")

    view(live, act)


def test_a_tiny_terminal_shows_the_tasks_and_the_log_of_one_on_demand(live: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "srv", "cli", "bad", "train"), "the tasks")
        assert not has(app, "loading")()
        await pilot.press("enter")
        await until(
            pilot,
            lambda: has(app, "log of srv  (z: back)", "loading")() and not has(app, "good")(),
            "the log",
        )
        await pilot.press("z", "question_mark")
        await until(pilot, has(app, "tasks, nodes, graph"), "the help")
        await pilot.press("end")
        await until(pilot, has(app, "this text"), "the end of the help")

    view(live, act, size=(40, 10))


def test_keys_choose_filter_find_and_pin(live: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "good"), "the tasks")
        await pilot.press("slash")
        await pilot.press(*"good", "enter")
        await until(pilot, lambda: has(app, "good")() and not has(app, "train")(), "one task")
        await until(pilot, has(app, "log of good", "fine"), "its log")
        await pilot.press("slash", "ctrl+u", "enter")
        await until(pilot, has(app, "train"), "all tasks")
        cursor_on(app, 0)
        await pilot.press("space")
        cursor_on(app, 3)
        await pilot.pause()
        await pilot.press("space")
        await until(pilot, has(app, "srv | loading", "bad | oops", "* srv"), "two logs")
        await pilot.press("f", *"oops", "enter")
        await until(pilot, lambda: not app.query_one(LogView).is_following, "the place")
        await pilot.press("g", *"load", "enter")
        await until(
            pilot, lambda: [line.text for line in app.query_one(LogView).shown] == ["loading"], "one line"
        )
        await pilot.press("e", "z")
        assert not app.query_one("#views").display
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)

    view(live, act)


def test_nothing_is_changed_without_a_yes(live: Run) -> None:
    told = Told()

    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "srv"), "the tasks")
        await pilot.press("x")
        assert isinstance(app.screen, Confirm)
        await pilot.press("enter", "n")
        await pilot.press("X", "escape")
        await pilot.press("k", "escape")
        assert told.done == []
        await pilot.press("r", "y")
        await until(pilot, lambda: len(told.done) == 1, "the restart")
        await pilot.press("k", "enter", "y")
        await until(pilot, lambda: len(told.done) == 2, "the signal")
        await pilot.press("p", "y")
        await until(pilot, lambda: len(told.done) == 3, "the pause")
        await pilot.press("X", "y")
        await until(pilot, lambda: len(told.done) == 4, "the stop")
        await until(pilot, has(app, "stop: done"), "what was done")

    view(live, act, told)
    assert told.done == [
        ("restart", ("srv",), ""),
        ("signal", ("srv",), "HUP"),
        ("pause", (), ""),
        ("stop", (), ""),
    ]


def test_a_refusal_is_shown(live: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "srv"), "the tasks")
        await pilot.press("x", "y")
        await until(pilot, has(app, "srv is done"), "the refusal")

    view(live, act, Told("srv is done"))


def test_leaving_a_run_of_ones_own_asks_what_becomes_of_it(live: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "srv"), "the tasks")
        await pilot.press("q")
        await until(pilot, has(app, "s  stop it in order"), "the question")
        await pilot.press("n", "ctrl+c")
        await until(pilot, has(app, "s  stop it in order"), "the question again")
        await pilot.press("l")

    assert view(live, act, owns=True).return_value == "leave"


def test_a_live_run_is_paused_steered_and_stopped_from_the_screen(live: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "srv", "running"), "the tasks")
        await pilot.press("p", "y")
        await until(pilot, has(app, "running, paused"), "the pause")
        await pilot.press("p")
        await until(pilot, has(app, "Start tasks again?"), "the question for the end of the pause")
        await pilot.press("y")
        await pilot.press("r", "y")
        await until(
            pilot, lambda: live.states()["srv"] == "running" and has(app, "2")(), "the second attempt"
        )
        await pilot.press("X", "y")
        await until(pilot, lambda: live.process.poll() is not None, "the end of the run")
        await until(pilot, has(app, "interrupted"), "how it ended")

    view(live, act)


def test_a_failed_run_stays_with_its_first_cause_in_front(ended: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "task bad failed: exit status 3", "log of bad", "oops"), "the cause")
        assert app.query_one("#banner", Static).has_class("bad")
        assert "sflow-ctl run --resume" in screen_text(app)
        await pilot.press("q")

    view(ended, act)


def test_a_run_that_has_ended_is_not_asked_to_change(ended: Run) -> None:
    told = Told()

    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, lambda: app.feed.is_over, "the end")
        for key in ("x", "X", "r", "k", "p"):
            await pilot.press(key)
            assert not isinstance(app.screen, Confirm)
        await until(pilot, has(app, "the run has ended"), "why not")

    view(ended, act, told)


def test_a_view_of_an_ended_run_uses_next_to_no_cpu(ended: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "log of bad", "oops"), "the cause")
        looks, whole = 0, app.feed._look

        def counted() -> None:
            nonlocal looks
            looks += 1
            whole()

        app.feed._look = counted  # type: ignore[method-assign]
        await pilot.pause(1.5)
        assert 1 <= looks <= 10

    view(ended, act)


def test_a_run_that_dies_is_said_to_have_died(live: Run, kill: Callable[[Run], None]) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "srv", "running"), "the tasks")
        kill(live)
        await until(pilot, has(app, "live died", "lost", "--resume"), "its death")

    view(live, act)


def test_control_characters_and_secrets_do_not_reach_the_screen(tmp_path: Path) -> None:
    workflow = r"""version: "0.1"
secrets: [TOKEN]
variables: {TOKEN: sesame-open-1234}
workflow:
  name: w
  tasks:
    - {name: t, script: ['printf "\033[2J\033]0;title\007token %s\n10%%\r100%%\n" "$TOKEN"; sleep 0.2; exit 1']}
"""
    run = Run.start(workflow, tmp_path, run_id="s")
    assert run.finish()[0] == 1

    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "token", "100%"), "the log")
        texts = [line.text for line in app.query_one(LogView).shown]
        assert not any("sesame" in text or "\x1b" in text or "title" in text for text in texts)
        assert texts[-1] == "100%"
        await pilot.press("i")
        await until(pilot, has(app, "Environment", "TOKEN="), "the environment")
        assert "sesame" not in app.export_screenshot()

    view(run, act, size=(100, 120))


def test_a_flood_of_lines_is_bounded_and_scrolls(live: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "log of srv", "loading"), "the log of the first task")
        log = app.query_one(LogView)
        for start in range(0, 3 * MAX_LINES, 1000):
            log.add([LogLine("srv", f"line {number}") for number in range(start, start + 1000)])
        await pilot.pause()
        assert MAX_LINES <= len(log.shown) <= MAX_LINES + 1000
        assert log.shown[-1].text == f"line {3 * MAX_LINES - 1}"
        assert log.is_following
        log.focus()
        await pilot.press("pageup")
        await until(pilot, lambda: not log.is_following, "scrolling back")
        log.add([LogLine("srv", "new")])
        await pilot.press("e")
        await until(pilot, has(app, "new"), "the end")

    view(live, act)


def test_the_input_of_a_dialog_keeps_what_was_chosen_before(live: Run) -> None:
    async def act(app: RunApp, pilot: Pilot[Leaving]) -> None:
        await until(pilot, has(app, "srv"), "the tasks")
        await pilot.press("slash", *"cli", "enter", "slash")
        await until(pilot, lambda: app.screen.query_one(Input).value == "cli", "the filter")
        await pilot.press("escape")

    view(live, act)


def test_without_a_terminal_it_is_refused_with_what_works(ended: Run, tmp_path: Path) -> None:
    done = sflow_ctl("attach", "--tui", "ended", cwd=tmp_path)
    assert (done.returncode, ended.directory.exists()) == (2, True)
    assert "error[no-screen]" in done.stderr
    assert "sflow-ctl attach without --tui" in done.stderr


@pytest.mark.parametrize("term", ["xterm-256color", "linux", "vt100"])
def test_a_real_terminal_is_left_as_it_was(ended: Run, tmp_path: Path, term: str) -> None:
    screen = Screen(
        "attach", "--tui", str(ended.directory), cwd=tmp_path, TERM=term, NO_COLOR="1", LC_ALL="C"
    )
    screen.wait_for(b"exit status 3")
    screen.type(b"q")
    assert screen.finish() == 1
    assert b"\x1b[?1049h" in screen.seen
    assert b"\x1b[?1049l" in screen.seen
    assert b"-- log of" in screen.seen
    assert screen.seen.isascii()


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_is_named(ended: Run, tmp_path: Path, term: str) -> None:
    screen = Screen("attach", "--tui", str(ended.directory), cwd=tmp_path, TERM=term)
    screen.wait_for(f"TERM is {term or 'not set'}".encode())
    assert screen.finish() == 2


def test_ascii_is_as_wide_as_what_it_stands_for() -> None:
    assert ascii_text("┌─ Größe ━╸ 世界 e\u0301…▏") == "+- Gr??e -  ???? e.|"


def test_a_long_name_leaves_room_for_the_state() -> None:
    assert short_name("benchmark_with_a_long_name_12", 80) == "benchmark_with_a_long_name_12"
    assert short_name("benchmark_with_a_long_name_12", 40) == "benchmark_w…e_12"
    assert short_name("benchmark_with_a_long_name_12", 10) == "benchmark…e_12"


def test_run_tui_shows_a_run_of_its_own_and_stops_it_when_asked(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: t, script: [echo begun; sleep 600]}]}\n'
    )
    screen = Screen("run", "w.yaml", "--tui", "--run-id", "mine", cwd=tmp_path)
    screen.wait_for(b"begun")
    screen.type(b"q")
    screen.wait_for(b"stop it in order")
    screen.type(b"s")
    assert screen.finish() == 130
    assert b"Workflow" in screen.seen or b"interrupted" in screen.seen


def test_run_tui_shows_its_own_run_where_another_one_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nvariables: {S: 600}\nworkflow:\n  name: w\n  tasks:\n'
        '    - {name: t, script: ["trap \'sleep 1; exit 1\' TERM", "sleep $S & wait"]}\n'
    )
    assert sflow_ctl("run", "w.yaml", "--run-id", "mine", "--set", "S=0", cwd=tmp_path).returncode == 0
    words = ("--run-id", "mine", "--output-dir", "elsewhere")
    screen = Screen("run", "w.yaml", "--tui", *words, cwd=tmp_path)
    screen.wait_for(b"running")
    screen.type(b"q")
    screen.wait_for(b"stop it in order")
    screen.type(b"s")
    assert screen.finish() == 130
    assert b"stopping 1 task" in screen.seen
    assert b"Detached" not in screen.seen
    assert RunReader(tmp_path / "elsewhere/mine").summary() is not None


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        ("plan.json", signal.SIGINT, 130),
        ("console.log", signal.SIGINT, 130),
        ("console.log", signal.SIGHUP, 129),
        ("the view", signal.SIGINT, 130),
        ("the view", signal.SIGTERM, 143),
    ],
)
def test_a_signal_at_any_moment_of_run_tui_stops_its_run_in_order(
    tmp_path: Path, moment: str, number: signal.Signals, status: int
) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: t, script: [echo begun; sleep 600]}]}\n'
    )
    screen = Screen("run", "w.yaml", "--tui", "--run-id", "mine", cwd=tmp_path)
    directory = tmp_path / "sflow_output/mine"
    if moment == "the view":
        screen.wait_for(b"\x1b[?1049h")
    else:
        wait_until((directory / ".sflow" / moment).exists, "the run")
    screen.send(number)
    assert screen.finish() == status, screen.seen
    summary = RunReader(directory).summary()
    assert summary is not None
    assert summary.exit_status == status
    assert screen.seen.count(b"\x1b[?1049h") == screen.seen.count(b"\x1b[?1049l")
    assert marked("mine", directory) == []


@pytest.mark.parametrize("passed_on", [0, 1, 2])
def test_each_signal_reaches_the_run_once_by_one_way_or_the_other(tmp_path: Path, passed_on: int) -> None:
    """What starts a run may have passed signals on, or have come too late for that: it says how many."""
    got = tmp_path / "got"
    program = (
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, (2, 15))\n"
        "print('ready', flush=True)\n"
        f"for _ in range({2 - passed_on}): open({str(got)!r}, 'a').write(f'{{signal.sigwait((2, 15))}} ')\n"
        "sys.stdin.read()\n"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == b"ready\n"
    ticks = process_start_ticks(supervisor.pid)
    (tmp_path / ".sflow").mkdir()
    claim = Claim(incarnation=1, host="h", world="w", pid=1, pid_started=1, supervisor=supervisor.pid)
    claim = replace(claim, supervisor_started=ticks)
    (tmp_path / layout.CLAIM).write_bytes(encode_claim(claim))
    starter = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, (2, 15))\n"
        "os.kill(os.getppid(), 2); signal.sigwait((2,)); os.kill(os.getppid(), 15); signal.sigwait((15,))\n"
        f"print({passed_on}, {str(tmp_path)!r})\n"
    )
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    own = OwnRun()
    try:
        assert own.start([sys.executable, "-c", starter]) == 0
        assert own.directory == tmp_path
        assert own.signals == [2, 15]
        expected = "".join(f"{number} " for number in (2, 15)[passed_on:])
        wait_until(lambda: expected == (got.read_text() if got.exists() else ""), "the signals")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        supervisor.communicate(b"")
    assert not own.lives()


def test_a_run_that_ends_while_it_is_looked_at_is_not_taken_for_a_dead_one(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, looks = RunReader(ended.directory), list[int]()
    written = RunReader.summary

    def summary(self: RunReader) -> Summary | None:
        looks.append(1)
        return None if len(looks) == 1 else written(self)

    monkeypatch.setattr(RunReader, "summary", summary)
    assert reader.status().liveness is Liveness.ENDED
    looks.clear()
    assert say_end(reader) == 1


def test_run_tui_says_what_is_wrong_with_a_file_before_any_screen(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text('version: "0.1"\nworkflow: {name: w, tasks: [{name: t, scirpt: [x]}]}\n')
    screen = Screen("run", "w.yaml", "--tui", cwd=tmp_path)
    assert screen.finish() == 2
    assert b"scirpt" in screen.seen
    assert b"\x1b[?1049h" not in screen.seen


@pytest.mark.parametrize("stalled", ["journal", "summary", "telemetry"])
def test_a_file_that_cannot_be_read_now_stops_no_drawing(
    live: Run, monkeypatch: pytest.MonkeyPatch, stalled: str
) -> None:
    """The feed's thread stands in a read, as on a stalled file system, and holds no lock that drawing needs."""
    stands, may_continue = threading.Event(), threading.Event()

    def stand(*_: object) -> None:
        stands.set()
        may_continue.wait(PATIENCE_S)

    def stand_in_journal(*_: object) -> Iterator[Entry]:
        stand()
        yield from ()

    def stand_in_telemetry(*_: object) -> None:
        stand()
        raise OSError(errno.EIO, "the file system is back")

    feed = Feed(RunReader(live.directory))
    if stalled == "journal":
        monkeypatch.setattr("sflow_ctl.runtime.journal.reader.JournalReader.entries", stand_in_journal)
    elif stalled == "summary":
        monkeypatch.setattr("sflow_ctl.runtime.record.reader.RunReader.summary", stand)
    else:
        monkeypatch.setattr("sflow_ctl.cli.tui.feed.read_newest", stand_in_telemetry)
    feed.start()
    try:
        assert stands.wait(PATIENCE_S)
        assert feed.lock.acquire(timeout=PATIENCE_S / 2)
        feed.lock.release()
    finally:
        monkeypatch.undo()
        may_continue.set()
        feed.close()

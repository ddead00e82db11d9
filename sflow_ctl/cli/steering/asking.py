"""The common parts of commands that change a run: their options, the request, what is printed, and the wait for the effect."""

import time
from collections.abc import Callable
from typing import TypeVar

import click
import msgspec

from protocol.errors import ExitStatus
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.core.requests import AnyAction, Effect
from sflow_ctl.core.states import TERMINAL
from sflow_ctl.report.request_text import answer_lines
from sflow_ctl.runtime.operating.client import Replied, Way, ask, check_accepted
from sflow_ctl.runtime.record.reader import Liveness, RunReader

F = TypeVar("F", bound=Callable[..., object])
LOOK_S = 0.1
_HINT = "sflow-ctl status shows the states of its tasks, sflow-ctl explain TASK why one is as it is"
LIVENESS_S = 2.0


class RequestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What commands that change a run print with `--json`. A refused request is an error on standard error instead."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    request: str
    """The id of the request, as in the journal."""
    way: Way
    """How the request came to the controller: over its `socket`, or by a `file` in the run directory."""
    text: str
    """What happens to the run as a whole; for a request about tasks, what holds all of them up, or nothing."""
    effects: tuple[Effect, ...]
    """What happens to each task."""


def steering_options(command: F) -> F:
    """Add `--json`, `-v` and `--output-dir`."""
    verbose = click.option("-v", "--verbose", is_flag=True, help="Print how the request reached the run.")
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return as_json(verbose(output_dir_option(command)))


def request(reader: RunReader, action: AnyAction, *, as_json: bool | None, verbose: bool) -> Replied:
    """Have a run carry out an action, and print what follows, as text or JSON; nothing if `as_json` is None.

    Raises: UsageError if it refuses; RunDirectoryError.
    """
    replied = ask(reader, action)
    check_accepted(reader, replied.answer, _HINT)
    if as_json:
        print_json(
            RequestReport(
                run_id=reader.facts.run_id,
                directory=str(reader.directory.absolute()),
                request=replied.id,
                way=replied.way,
                text=replied.answer.text,
                effects=replied.answer.effects,
            )
        )
        return replied
    for line in answer_lines(replied.answer) if as_json is not None else ():
        print_line(line)
    if verbose:
        ways = {"socket": "over the controller's socket", "file": "by a file in the run directory"}
        print_line(f"(request {replied.id}, {ways[replied.way]})", err=True)
    return replied


def await_end(reader: RunReader, tasks: list[str]) -> int:
    """Wait until tasks of a run, or without any the run, have ended; return the command's exit status."""
    look_at = 0.0
    while True:
        ended = reader.summary()
        reader.refresh()
        if ended is not None or (tasks and all(reader.state.tasks[name].state in TERMINAL for name in tasks)):
            return int(ExitStatus.OK)
        now = time.monotonic()
        if now >= look_at:
            look_at = now + LIVENESS_S
            if reader.controller_status().liveness is Liveness.DEAD and reader.summary() is None:
                print_line(f"{reader.facts.run_id} died meanwhile", err=True)
                return int(ExitStatus.INFRASTRUCTURE)
        time.sleep(LOOK_S)

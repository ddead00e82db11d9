"""Which runs may be deleted, and why the others stay: what `clean` shows. Pure."""

from collections.abc import Sequence

import msgspec

from protocol.text.sizes import size_text
from sflow_ctl.report.looking.run_list import RunEntry, age_text
from sflow_ctl.report.tables import Table

SETTLED_S = 600.0
"""Agents and job steps of a run whose controller died may still stop its tasks; they have done so after this time."""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is to be deleted."""

    kind: str
    """`run`; `spool`: logs on this node that did not reach their run; `rest`: of a run that was not made or deleted wholly."""
    path: str
    """The directory."""
    run_id: str = ""
    """The run that it is of, if that is known."""
    state: str = ""
    """As in `ps --json`, of a run."""
    ended_wall_ns: int | None = None
    """When the run ended, in ns since 1970."""
    bytes: int = 0
    """On the disk."""


class CleanReport(msgspec.Struct, frozen=True, kw_only=True):
    """`clean --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    is_dry_run: bool
    """Nothing was deleted: with `--dry-run`, or without `--yes`."""
    removed: tuple[Removal, ...]
    """What was deleted; in a dry run, what would be."""
    kept: tuple[str, ...]
    """Sentences about runs that stay although their age and number would not keep them."""
    problems: tuple[str, ...] = ()
    """What could not be deleted, and why."""


def choose(
    runs: Sequence[RunEntry], keep: int, older_s: float, now_ns: int
) -> tuple[list[RunEntry], list[str]]:
    """Return the runs that may be deleted, oldest last, and why others that the numbers do not keep stay.

    `runs` are those of one output directory, the newest first; live ones are not counted.
    """
    ended = [run for run in runs if not run.is_live and run.state != "unreadable"]
    chosen, kept = [], []
    for run in ended[keep:]:
        age_s = (now_ns - (run.ended_wall_ns or run.started_wall_ns)) / 1e9
        if age_s < older_s:
            continue
        if run.state == "died" and age_s < SETTLED_S:
            kept.append(
                f"{run.run_id} stays: it died {age_text(age_s)} ago, and its processes may still be ending"
            )
            continue
        chosen.append(run)
    kept += [f"{run.run_id} stays: {run.text or 'it is live'}" for run in runs if run.is_live]
    kept += [f"{run.run_id} stays: it is unreadable: {run.text}" for run in runs if run.state == "unreadable"]
    return chosen, kept


def removal_table(removals: Sequence[Removal], now_ns: int) -> Table:
    """Return what is to be deleted as a table."""
    rows = [
        (
            one.run_id or "-",
            one.state or one.kind,
            "-" if one.ended_wall_ns is None else age_text((now_ns - one.ended_wall_ns) / 1e9),
            size_text(one.bytes),
            one.path,
        )
        for one in removals
    ]
    return Table(
        headings=("RUN", "STATE", "ENDED", "SIZE", "PATH") if rows else (),
        rows=tuple(rows),
        right=frozenset({"ENDED", "SIZE"}),
        shrinks=frozenset({"RUN", "PATH"}),
    )

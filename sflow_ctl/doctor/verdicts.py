"""Verdicts: one line about some nodes, its severity, and its fix."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from protocol.text.listing import listed

SHOWN_NODES = 4


class Severity(StrEnum):
    """How severe. Only a failure makes the whole examination fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One finding. `nodes` is empty for one that is not about particular nodes."""

    severity: Severity
    nodes: tuple[str, ...]
    text: str
    fix: str = ""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts of one kind of check."""

    name: str
    summary: str
    """A line for the case without problems."""
    verdicts: tuple[Verdict, ...]

    @property
    def worst(self) -> Severity:
        """Return the severity of the whole topic."""
        found = {verdict.severity for verdict in self.verdicts}
        return next((one for one in (Severity.FAIL, Severity.WARN) if one in found), Severity.OK)


def topic(name: str, summary: str, verdicts: Iterable[Verdict]) -> Topic:
    """Return a topic in which equal verdicts of several nodes are joined, the worst first."""
    together: dict[tuple[Severity, str, str], list[str]] = {}
    for one in verdicts:
        together.setdefault((one.severity, one.text, one.fix), []).extend(one.nodes)
    order = (Severity.FAIL, Severity.WARN, Severity.OK)
    merged = [
        Verdict(severity=severity, nodes=tuple(dict.fromkeys(nodes)), text=text, fix=fix)
        for (severity, text, fix), nodes in together.items()
    ]
    return Topic(
        name=name,
        summary=summary,
        verdicts=tuple(sorted(merged, key=lambda one: order.index(one.severity))),
    )


def ok(nodes: str | tuple[str, ...], text: str) -> Verdict:
    """Return a verdict without a problem, shown with `--all`."""
    return Verdict(severity=Severity.OK, nodes=_tuple(nodes), text=text)


def warn(nodes: str | tuple[str, ...], text: str, fix: str) -> Verdict:
    """Return a verdict: runs may fail."""
    return Verdict(severity=Severity.WARN, nodes=_tuple(nodes), text=text, fix=fix)


def fail(nodes: str | tuple[str, ...], text: str, fix: str) -> Verdict:
    """Return a verdict: runs will fail."""
    return Verdict(severity=Severity.FAIL, nodes=_tuple(nodes), text=text, fix=fix)


def _tuple(nodes: str | tuple[str, ...]) -> tuple[str, ...]:
    return (nodes,) if isinstance(nodes, str) else nodes


def names(nodes: Sequence[str], shown: int = SHOWN_NODES) -> str:
    """Return the names in the form "n0, n1, n2, n3 and 5 more"."""
    return listed(nodes, shown)


def size(count: int | float) -> str:
    """Return bytes in the largest unit that leaves a number above one."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"


def seconds(value: float) -> str:
    """Return a duration in its most readable unit."""
    if value >= 120:
        return f"{value / 60:.0f} min"
    if value >= 1:
        return f"{value:.1f} s"
    return f"{value * 1000:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"


def span(values: Iterable[str]) -> str:
    """Return the one value of all, or the different ones."""
    return " or ".join(dict.fromkeys(values)) or "unknown"

"""Combines all topics of an inspection, in reading order, as text and as an exit status."""

from collections.abc import Iterator

import msgspec

from protocol.errors import ExitStatus
from protocol.text.counted import counted
from sflow_ctl.doctor.facts import Examination
from sflow_ctl.doctor.fleet_checks import agent_topic, clock_topic, slurm_topic, version_topic
from sflow_ctl.doctor.mesh import mesh_topic
from sflow_ctl.doctor.node_checks import (
    container_topic,
    cpu_topic,
    directory_topic,
    gpu_topic,
    leftover_topic,
    limit_topic,
    memory_topic,
)
from sflow_ctl.doctor.verdicts import Severity, Topic, Verdict, names

_JUDGES = (
    agent_topic,
    clock_topic,
    cpu_topic,
    memory_topic,
    gpu_topic,
    limit_topic,
    directory_topic,
    version_topic,
    container_topic,
    leftover_topic,
    slurm_topic,
)
_MARKS = {Severity.OK: "ok", Severity.WARN: "warn", Severity.FAIL: "FAIL"}
_COLOURS = {Severity.OK: "\x1b[32m", Severity.WARN: "\x1b[33m", Severity.FAIL: "\x1b[31m"}
_PLAIN = "\x1b[0m"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `doctor --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    exit_status: int
    topics: tuple[Topic, ...]
    facts: Examination

    def count(self, severity: Severity) -> int:
        """Return the number of verdicts of this severity."""
        return sum(one.severity is severity for topic in self.topics for one in topic.verdicts)


def diagnose(examination: Examination) -> Diagnosis:
    """Judge all facts."""
    first, *rest = (judge(examination) for judge in _JUDGES)
    topics = (first, mesh_topic(examination.nodes), *rest)
    has_failed = any(topic.worst is Severity.FAIL for topic in topics)
    silent = examination.missing or any(node.lost or node.report is None for node in examination.nodes)
    status = ExitStatus.INFRASTRUCTURE if silent else ExitStatus.RUN_FAILED if has_failed else ExitStatus.OK
    return Diagnosis(exit_status=int(status), topics=topics, facts=examination)


def text(diagnosis: Diagnosis, shows_all: bool, colours: bool) -> str:
    """Return one line for each topic without problems, and each problem with its fix; with `shows_all` every fact."""
    facts = diagnosis.facts
    nodes = [node.name for node in facts.nodes] + [name for name, _ in facts.missing]
    where = f"job {facts.slurm.job_id}, " if facts.slurm is not None else ""
    lines = [f"{where}{counted(len(nodes), 'node')}: {names(nodes, 8)}", ""]
    width = max(len(topic.name) for topic in diagnosis.topics)
    for topic in diagnosis.topics:
        lines += _topic_lines(topic, width, len(nodes), shows_all, colours)
    bad, worrying = diagnosis.count(Severity.FAIL), diagnosis.count(Severity.WARN)
    lines.append("")
    if not bad and not worrying:
        lines.append("No problems found.")
    else:
        lines.append(f"{_number(bad, 'failure')}, {_number(worrying, 'warning')}")
    return "\n".join(lines)


def _topic_lines(topic: Topic, width: int, nodes: int, shows_all: bool, colours: bool) -> Iterator[str]:
    name = topic.name.ljust(width)
    if topic.worst is Severity.OK:
        yield f"{_mark(Severity.OK, colours)} {name}  {topic.summary}"
    elif shows_all:
        yield f"{_mark(topic.worst, colours)} {name}  {topic.summary}"
    for verdict in topic.verdicts:
        if verdict.severity is not Severity.OK:
            yield f"{_mark(verdict.severity, colours)} {name}  {_sentence(verdict, nodes)}"
            yield f"     {' ' * width}  fix: {verdict.fix}"
        elif shows_all:
            yield f"     {' ' * width}  {_sentence(verdict, nodes)}"


def _sentence(verdict: Verdict, nodes: int) -> str:
    if not verdict.nodes:
        return verdict.text
    who = f"all {nodes} nodes" if len(verdict.nodes) == nodes > 4 else names(verdict.nodes)
    return f"{who}: {verdict.text}"


def _mark(severity: Severity, colours: bool) -> str:
    mark = _MARKS[severity].ljust(4)
    return f"{_COLOURS[severity]}{mark}{_PLAIN}" if colours else mark


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"

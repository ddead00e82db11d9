"""Pages that are made from the source: message codes, and the formats of files in the run directory.

`SFLOW_REWRITE=1 pytest tests/integration/documents` writes them anew.
"""

import ast
import inspect
import re
import textwrap
import types
import typing
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sflow_ctl.cli.commands.presets import PresetEntry, PresetList, PresetParameter
from sflow_ctl.cli.commands.sample import SampleCopy, SampleEntry, SampleList
from sflow_ctl.cli.commands.skill import SkillCopies, SkillEntry, SkillFolder, SkillList
from sflow_ctl.cli.commands.status import StatusReport
from sflow_ctl.cli.looking.bundle import BundleReport
from sflow_ctl.cli.looking.chosen_lines import PrintedLine
from sflow_ctl.cli.looking.events import EventLine
from sflow_ctl.cli.looking.explain import ExplainedTask, ExplainReport
from sflow_ctl.cli.looking.export import ExportReport
from sflow_ctl.cli.looking.run_lines import RunEndLine, RunStartedLine
from sflow_ctl.cli.looking.top import LiveTaskUse, TopReport
from sflow_ctl.cli.looking.wait import WaitedTask, WaitReport
from sflow_ctl.cli.sheets.batch_many import BatchEntry, BatchReport
from sflow_ctl.cli.start.init import InitReport, TemplateEntry, TemplateList
from sflow_ctl.cli.start.validate import Diagnostic, Diagnostics
from sflow_ctl.cli.steering.apply import ApplyReport, TaskChange
from sflow_ctl.cli.steering.asking import RequestReport
from sflow_ctl.cli.steering.cancel import CancelReport
from sflow_ctl.core.commands import RecordWaiting
from sflow_ctl.core.events import SchedulerEvent
from sflow_ctl.core.requests import Effect
from sflow_ctl.core.states import FirstCause, Reason, TaskState, Transition
from sflow_ctl.report.looking.cleaning import CleanReport, Removal
from sflow_ctl.report.looking.explanation import Because, Explanation
from sflow_ctl.report.looking.run_list import JobEntry, RunEntry, RunList
from sflow_ctl.report.notices import RunNotice
from sflow_ctl.report.run_report.comparing import (
    ConfigurationChange,
    RunComparison,
    TaskComparison,
    ValueComparison,
)
from sflow_ctl.report.run_report.model import (
    AttemptReport,
    CauseReport,
    GroupReport,
    PathStep,
    Plot,
    PlotSeries,
    ReportedNode,
    ResultsReport,
    RunHead,
    RunReport,
    TaskReport,
    UsageReport,
    UsageSeries,
    ValueSpread,
)
from sflow_ctl.report.screen.usage import NodeUse
from sflow_ctl.report.summary import Summary, TaskSummary
from sflow_ctl.results.task_entries import FoundTasks, TaskEntry
from sflow_ctl.runtime.journal.entry import Begin, Entry
from tests.documents.blocks import ROOT

PACKAGES = ("protocol", "sflow_agent", "sflow_ctl")
_CODE = re.compile(r"^[a-z][a-z0-9]*(-[a-z0-9]+)+$|^(cycle|launcher|options)$")
_SAID = re.compile(r"^([a-z]+(?:-[a-z]+)+): $")
"""The beginning of a line of `sflow.log` that has a code: a text with what varies, not a finding."""
_PROGRAMS = ("sflow-ctl", "sflow-agent")
_MAKERS = re.compile(r"Error$|Finding$|Problem$|^of$|^add$")


def message_codes() -> dict[str, set[str]]:
    """Return every message code of the source with the sentences that it comes with, `…` for what varies."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts = _assigned(tree)
            for said, text in _said(tree):
                found[said].add(text)
            for call in _calls(tree):
                match call.args:
                    case [ast.Constant(value=str(code)), sentence, *_] if _CODE.match(code):
                        found[code].add(_sentence(sentence, texts))
                    case [_, ast.Constant(value=str(code)), sentence, *_] if _CODE.match(code):
                        found[code].add(_sentence(sentence, texts))
                    case _:
                        pass
    return found


def _said(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the codes and sentences of warnings in the log."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            match = _SAID.match(str(node.values[0].value))
            if match is not None and match[1] not in _PROGRAMS:
                yield match[1], _sentence(node, []).removeprefix(f"{match[1]}: ")


def _assigned(tree: ast.Module) -> list[tuple[int, str, ast.expr]]:
    """Return the line, name and value of every simple assignment."""
    return [
        (node.lineno, node.targets[0].id, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    """Yield the calls that make a finding or an error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if _MAKERS.search(name):
                yield node


def _sentence(node: ast.expr, texts: list[tuple[int, str, ast.expr]]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_sentence(value, []) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _sentence(left, texts) + _sentence(right, texts)
        case ast.IfExp(body=body):
            return _sentence(body, texts)
        case ast.Name(id=name):
            before = [(line, value) for line, other, value in texts if other == name and line <= node.lineno]
            return _sentence(max(before, key=lambda pair: pair[0])[1], []) if before else "…"
        case _:
            return "…"


def codes_page() -> str:
    """Return `docs/reference/messages.md`."""
    lines = [
        "# Messages by code",
        "",
        "Generated from the source; do not edit. Every error has a code that does not change: `error[CODE]: ...`. The",
        "important ones are explained in [Troubleshooting](../troubleshooting.md). `…` stands for what varies.",
        "",
        "| Code | Says |",
        "|---|---|",
    ]
    for code, sentences in sorted(message_codes().items()):
        texts = sorted(" ".join(text.split()).replace("|", "\\|") for text in sentences)
        shown = [text for text in texts if text.strip("…: ")]
        lines.append(f"| `{code}` | {'<br>'.join(f'`{text}`' for text in shown) or 'varies'} |")
    return "\n".join(lines) + "\n"


def struct_table(kind: type[msgspec.Struct]) -> list[str]:
    """Return a Markdown table of a type's fields, with the docstrings below them as meanings."""
    meanings = _field_docstrings(kind)
    hints = typing.get_type_hints(kind)
    lines = [inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " "), ""]
    lines += ["| Field | Type | Meaning |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {type_words(hints[name])} | {meanings.get(name, '')} |"
        for name in kind.__struct_fields__
    ]
    return lines


def _field_docstrings(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith(PACKAGES):
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(definition, ast.ClassDef)
            name = ""
            for statement in definition.body:
                match statement:
                    case ast.AnnAssign(target=ast.Name(id=name)):
                        pass
                    case ast.Expr(value=ast.Constant(value=str(text))) if name:
                        found[name] = " ".join(text.split()).replace("|", "\\|")
                        name = ""
                    case _:
                        name = ""
    return found


def type_words(hint: Any) -> str:
    """Return a type in the words of JSON."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(each) for each in arguments)
    if origin is typing.Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin in (tuple, list):
        return f"list of {type_words(arguments[0])}"
    if origin is dict:
        return f"object of {type_words(arguments[1])}"
    simple = {
        int: "integer",
        float: "number",
        str: "text",
        bool: "boolean",
        types.NoneType: "null",
        Any: "any value",
    }
    if hint in simple:
        return simple[hint]
    if isinstance(hint, type) and issubclass(hint, str):
        return "text"
    return f"`{getattr(hint, '__name__', hint)}`"


def state_words() -> str:
    """Return the states of a task as they are in files."""
    return ", ".join(f"`{state.value}`" for state in TaskState)


def read(path: Path) -> str:
    """Return the text of a page, or nothing."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def summary_page() -> str:
    """Return `docs/reference/summary.md`."""
    return "\n".join(
        [
            "# `summary.json`",
            "",
            "Generated from the types; do not edit. Written once, when a run ends. `version` grows when a field changes",
            f"its meaning. States of tasks: {state_words()}.",
            "",
            "## The run",
            "",
            *struct_table(Summary),
            "",
            "## Each of `tasks`",
            "",
            *struct_table(TaskSummary),
            "",
            "## `cause`",
            "",
            *struct_table(FirstCause),
            "",
            "## `reason` of a cause",
            "",
            *struct_table(Reason),
            "",
        ]
    )


def events_page() -> str:
    """Return `docs/reference/events.md`."""
    kinds = typing.get_args(SchedulerEvent)
    return "\n".join(
        [
            "# `events.jsonl`",
            "",
            "Generated from the types; do not edit. The journal of a run: one JSON object a line, appended only, never",
            "rewritten. A reader skips a last line that is not complete. Fields that have their default are left out.",
            "",
            "A file of 8 MB is put away as `events.000001.jsonl.gz`, `events.000002.jsonl.gz` and so on, and a new",
            "`events.jsonl` takes its place in one step: `zcat events.*.jsonl.gz; cat events.jsonl` is the whole journal. The",
            "first line of each, and of what each controller wrote, has `kind` `begin`. Numbers of lines continue over files.",
            "A line has at most 64 KiB, unless it tells of hundreds of ranks at once: long texts and values are cut, and say so.",
            "",
            "Lines with `kind` `event` are inputs of the scheduler; handled again, in order, they lead to the same state.",
            "Programs that follow a run read the lines with `kind` `transition`: one for each change of a task's state.",
            "",
            "## A line",
            "",
            *struct_table(Entry),
            "",
            "## `begin`",
            "",
            *struct_table(Begin),
            "",
            "## `transition`",
            "",
            *struct_table(Transition),
            "",
            "## `waiting`",
            "",
            *struct_table(RecordWaiting),
            "",
            "## `event`, by its `type`",
            "",
            *(
                line
                for kind in kinds
                for line in (f"### `{kind.__struct_config__.tag}`", "", *struct_table(kind), "")
            ),
            "Messages of agents in an event are those of the protocol.",
            "",
        ]
    )


JSON_OUTPUTS: tuple[tuple[str, tuple[type[msgspec.Struct], ...]], ...] = (
    ("sflow-ctl ps --json", (RunList, RunEntry, JobEntry)),
    ("sflow-ctl ps --tasks QUERY --json", (FoundTasks, TaskEntry)),
    ("sflow-ctl status --json", (StatusReport,)),
    ("sflow-ctl wait --json", (WaitReport, WaitedTask)),
    ("sflow-ctl stop, restart, signal, pause, unpause --json", (RequestReport, Effect)),
    ("sflow-ctl apply, scale --json", (ApplyReport, TaskChange)),
    ("sflow-ctl cancel --json", (CancelReport,)),
    ("sflow-ctl bundle --json", (BundleReport,)),
    ("sflow-ctl export --json", (ExportReport,)),
    ("sflow-ctl events --json", (EventLine,)),
    ("sflow-ctl run --json, the first line", (RunStartedLine,)),
    ("sflow-ctl run --json, the last line", (RunEndLine,)),
    ("sflow-ctl logs --json", (PrintedLine,)),
    ("sflow-ctl batch --json", (BatchReport, BatchEntry)),
    ("sflow-ctl presets --json", (PresetList, PresetEntry, PresetParameter)),
    ("sflow-ctl sample list --json", (SampleList, SampleEntry)),
    ("sflow-ctl sample copy --json", (SampleCopy,)),
    ("sflow-ctl init --json", (InitReport,)),
    ("sflow-ctl init --list --json", (TemplateList, TemplateEntry)),
    ("sflow-ctl skill --json", (SkillCopies, SkillFolder)),
    ("sflow-ctl skill --list --json", (SkillList, SkillEntry)),
    ("sflow-ctl top --json", (TopReport, LiveTaskUse, NodeUse)),
    ("sflow-ctl explain --json", (ExplainReport, ExplainedTask, Explanation, Because)),
    ("sflow-ctl clean --json", (CleanReport, Removal)),
    ("sflow-ctl validate --json", (Diagnostics, Diagnostic)),
    ("notify", (RunNotice,)),
)


def json_page() -> str:
    """Return `docs/reference/json.md`."""
    lines = [
        "# JSON of commands",
        "",
        "Generated from the types; do not edit. One object each; `events`, `logs`, `run` and `status --watch` print one on each",
        "line: `run --json` first the run, then its events as `events --json`,",
        "then the end. `version` grows when a field changes its meaning; fields may be added without. Text is UTF-8, and",
        "values of declared secrets are masked. Other commands with `--json`: `plan`, `config show`, `doctor`, and `report`, see",
        "[report.json](report.md).",
        "",
        "Without it, as another command says the same: `attach` (`events -f --json`, `logs -f --json`), `rerun` and `replay`",
        "(those beside them, and `status --json`), `visualize` (`plan --json` has the graph), `compose` (prints a workflow).",
        "",
    ]
    for command, kinds in JSON_OUTPUTS:
        lines += [f"## `{command}`", ""]
        for number, kind in enumerate(kinds):
            lines += [*([f"### `{kind.__name__}`", ""] if number else []), *struct_table(kind), ""]
    return "\n".join(lines)


REPORT_PARTS: tuple[type[msgspec.Struct], ...] = (
    RunHead, CauseReport, TaskReport, AttemptReport, PathStep, GroupReport, ValueSpread, ReportedNode, UsageReport,
    UsageSeries, ResultsReport, Plot, PlotSeries,
)  # fmt: skip
COMPARISON_PARTS: tuple[type[msgspec.Struct], ...] = (
    RunComparison,
    ConfigurationChange,
    TaskComparison,
    ValueComparison,
)


def report_page() -> str:
    """Return `docs/reference/report.md`."""
    lines = [
        "# `report.json`",
        "",
        "Generated from the types; do not edit. What `report.html` shows, for programs: written with it when a run ends, and by",
        "`sflow-ctl report RUN --json` at any time. `version` grows when a field changes its meaning; fields may be added",
        "without. Times are seconds after `began_wall_ns`. Values of secrets are masked. Fields of tasks and attempts that have",
        "their default (nothing, false, empty) are left out.",
        "",
        "## The report",
        "",
        *struct_table(RunReport),
        "",
    ]
    for kind in REPORT_PARTS:
        lines += [f"### `{kind.__name__}`", "", *struct_table(kind), ""]
    lines += ["## Two runs", ""]
    for kind in COMPARISON_PARTS:
        lines += [f"### `{kind.__name__}`", "", *struct_table(kind), ""]
    return "\n".join(lines)


FILE_PAGES = {
    "summary.md": summary_page,
    "events.md": events_page,
    "json.md": json_page,
    "report.md": report_page,
}

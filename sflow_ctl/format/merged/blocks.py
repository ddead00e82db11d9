"""Takes the blocks of a file apart: their tasks become tasks of the workflow, named `BLOCK~TASK`, until they are planned.

So the tasks of blocks are merged, checked and planned as all others. Names of tasks of the same block are made those of the
workflow wherever a task refers to them. Called by `files`.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.merged.files import Merged, merge_tasks, named_items, prepare_task
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.yaml_source import Source

MARK = "~"
"""Between the names of a block and of its task; no name of a task that is written has one."""
_NAME = lazy_pattern(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z][A-Za-z0-9_-]*)*")
_EXPRESSION = lazy_pattern(r"\$\{\{.*?\}\}", re.DOTALL)
_TASK = lazy_pattern(r"(?<![.\w])task(?:\.(\w+)|\[\s*[\"']([^\"']+)[\"']\s*\])")


def take_blocks(merged: Merged, source: Source, data: Any) -> None:
    """Add the blocks of a file, and their tasks, to what is merged."""
    for item in named_items(source, ("workflow", "blocks"), data, merged.findings, allow_values=False):
        add_block(merged, item)


def add_block(merged: Merged, block: Item) -> None:
    """Add one block, and its tasks, to what is merged. Dots in its name separate prefixes of included files."""
    other = next((one for one in merged.blocks if one.name == block.name), None)
    if not _NAME.fullmatch(block.name):
        what = f'"{block.name}" cannot be the name of a block'
        merged.findings.append(Finding("unsafe-name", what, block.where(), "use letters, digits, _ and -"))
    elif other is not None:
        place = other.where().partition("  ")[0]
        what = f'block "{block.name}" is defined twice: the other one is at {place}'
        merged.findings.append(Finding("duplicate-key", what, block.where(), "rename one of them"))
    else:
        merged.written_blocks[block.name] = {"name": block.name, **block.body} | {"name": block.name}
        _take_one(merged, block)


def _take_one(merged: Merged, block: Item) -> None:
    body, source = dict(block.body), block.source
    place = (*block.path, "tasks")
    tasks = named_items(source, place, body.pop("tasks", None), merged.findings, allow_values=False)
    if not tasks:
        what = f'block "{block.name}" has no tasks'
        merged.findings.append(Finding("missing-key", what, block.where(), "add tasks:"))
    names = {task.name for task in tasks}
    for task in tasks:
        prepare_task(merged, task)
        if MARK in task.name:
            what = f'task name "{task.name}" contains {MARK}, which separates blocks'
            merged.findings.append(Finding("unsafe-name", what, task.where("name"), "rename the task"))
        task.body = _qualified(block.name, names, task.body)
        task.name = task.body["name"] = f"{block.name}{MARK}{task.name}"
    merge_tasks(merged, tasks)
    inputs = body.get("inputs")
    if isinstance(inputs, dict):
        body["inputs"] = {
            name: {"type": one} if isinstance(one, str) else one for name, one in inputs.items()
        }
    body["outputs"] = _in_texts(block.name, names, body.get("outputs", {}))
    merged.blocks.append(Item(block.name, body, source, block.path))


def _qualified(block: str, names: Collection[str], body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a task that names others of its block as the workflow does."""

    def name_of(task: Any) -> Any:
        return f"{block}{MARK}{task}" if task in names else task

    done: dict[str, Any] = _in_texts(block, names, body)
    if isinstance(body.get("depends_on"), list):
        done["depends_on"] = [
            {**one, "task": name_of(one.get("task"))} if isinstance(one, dict) else name_of(one)
            for one in done["depends_on"]
        ]
    if isinstance(body.get("required_by"), list):
        done["required_by"] = [name_of(one) for one in body["required_by"]]
    if isinstance(body.get("inputs"), dict):
        done["inputs"] = {name: _source(one, name_of) for name, one in done["inputs"].items()}
    return done


def _source(given: Any, name_of: Any) -> Any:
    """Return an input of a task with the names of its sources as the workflow has them."""
    if not isinstance(given, dict) or not isinstance(given.get("from"), list):
        return given
    sources = []
    for text in given["from"]:
        task, dot, output = text.rpartition(".outputs.") if isinstance(text, str) else ("", "", text)
        sources.append(f"{name_of(task)}{dot}{output}" if dot else text)
    return {**given, "from": sources}


def _in_texts(block: str, names: Collection[str], data: Any) -> Any:
    """Return data in whose expressions tasks of the block are named as the workflow does."""
    if isinstance(data, dict):
        return {key: _in_texts(block, names, value) for key, value in data.items()}
    if isinstance(data, list):
        return [_in_texts(block, names, value) for value in data]
    if not isinstance(data, str) or "${{" not in data:
        return data

    def named(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return f"task['{block}{MARK}{name}']" if name in names else match[0]

    return _EXPRESSION.sub(lambda match: _TASK.sub(named, match[0]), data)


def as_written(text: str, blocks: Collection[str]) -> str:
    """Return a text for people, in which tasks of these blocks are named as the file does."""
    if MARK not in text:
        return text
    names = "|".join(re.escape(one) for one in sorted(blocks, key=len, reverse=True))
    task = rf"(?P<block>{names}){MARK}(?P<task>[A-Za-z][\w-]*)"

    def in_expression(match: re.Match[str]) -> str:
        name = match["task"]
        return f"task.{name}" if name.isidentifier() else f"task['{name}']"

    text = re.sub(rf"\btask\['{task}'\]", in_expression, text)
    text = re.sub(rf'"{task}"', r'"\g<task>" of block "\g<block>"', text)
    return re.sub(rf"(?<![\w.~/-]){task}", r"\g<task> of block \g<block>", text)


def findings_as_written(findings: Iterable[Finding], blocks: Collection[str]) -> list[Finding]:
    """Return findings in which tasks of these blocks are named as the file does."""
    return [
        Finding(
            one.code,
            as_written(one.what, blocks),
            one.where,
            None if one.hint is None else as_written(one.hint, blocks),
        )
        for one in findings
    ]

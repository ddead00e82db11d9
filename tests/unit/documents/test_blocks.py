"""Every YAML and shell block of the documents is true: files can be read and planned, commands have such options."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from protocol.errors import FleetError, SpecError
from sflow_ctl.cli.app import group
from sflow_ctl.format.loader import load_documents
from sflow_ctl.planner.pipeline import build_plan
from tests.conformance.test_conformance import CONTEXT
from tests.documents.blocks import PAGES, ROOT, Block, all_blocks, blocks

BLOCKS = [block for block in all_blocks() if "illustrative" not in block.marks]
YAML = [block for block in BLOCKS if block.language == "yaml"]
SHELL = [block for block in BLOCKS if block.language in ("bash", "console")]
FRAGMENT_CODES = {"unknown-dependency", "unknown-logger", "undefined-name", "missing-key", "unknown-operator"}
"""Findings about what a fragment does not show. A key that does not exist is never among them."""
CHECKED = {"yaml", "bash", "console", "text", "", "json", "python", "mermaid"}


def whole(block: Block) -> dict[str, Any]:
    """Return a document that holds the block: itself, or a fragment in its place."""
    value = yaml.safe_load(block.text)
    if isinstance(value, list):
        return {"version": "0.1", "workflow": {"name": "fragment", "tasks": value}}
    if not {"backends", "workflow", "signatures", "storage"} & value.keys():
        key = "settings" if block.page.name == "site.md" else "task"
        if key == "settings":
            value = {"settings": value}
        else:
            task = {"name": "fragment", "script": ["true"], **value}
            return {"version": "0.1", "workflow": {"name": "fragment", "tasks": [task]}}
    workflow = {
        "name": "fragment",
        "tasks": [{"name": "fragment", "script": ["true"]}],
        **value.get("workflow", {}),
    }
    tasks = [{"script": ["true"], **task} if "uses" not in task else task for task in workflow["tasks"]]
    return {"version": "0.1", **value, "workflow": {**workflow, "tasks": tasks}}


def is_whole(block: Block) -> bool:
    """Return whether the block is a file by itself."""
    value = yaml.safe_load(block.text)
    return isinstance(value, dict) and {"version", "workflow"} <= value.keys()


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_a_workflow_in_the_documents_can_be_planned(block: Block, tmp_path: Path) -> None:
    for other in blocks(block.page):
        if other.language == "yaml" and "file" in other.marks:  # which this one may include
            (tmp_path / other.marks["file"]).write_text(other.text)
    path = tmp_path / "workflow.yaml"
    path.write_text(block.text if is_whole(block) else yaml.safe_dump(whole(block), sort_keys=False))
    problem = None
    try:
        document = load_documents([path])
        if is_whole(block):
            build_plan(document, CONTEXT)
    except FleetError as error:
        problem = error
    findings = problem.findings if problem is not None else []
    if not is_whole(block):
        unexpected = [str(finding) for finding in findings if finding.code not in FRAGMENT_CODES]
        assert not unexpected, "\n".join(unexpected)
        assert problem is None or isinstance(problem, SpecError)
        return
    refused = {block.marks["refused"]} if "refused" in block.marks else set()
    assert {finding.code for finding in findings} == refused, str(problem)


def commands(block: Block) -> list[list[str]]:
    """Return the words of each `sflow-ctl` command, also of one behind `exec` or in a shell's prompt."""
    found = []
    for line in block.text.splitlines():
        match = re.match(r"^(?:\$ )?(?:exec )?(?:\S*/)?sflow-ctl (.*)$", line)
        if match and (block.language == "bash" or line.startswith("$ ")):
            found.append(shlex.split(re.sub(r"\s(#|>|\||<).*", "", match[1])))
    return found


@pytest.mark.parametrize(
    "block", [block for block in SHELL if commands(block)], ids=lambda block: block.place
)
def test_commands_of_the_documents_exist_with_their_options(block: Block) -> None:
    for words in commands(block):
        command = group.get_command(click.Context(group), words[0])
        assert command is not None, words
        known = {
            option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]
        }
        used = {word.partition("=")[0] for word in words[1:] if word.startswith("-") and word != "-"}
        unknown = {word for word in used if word not in known | {"--help"}}
        assert not unknown, f"sflow-ctl {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_have_a_language(page: Path) -> None:
    unknown = [block.place for block in all_blocks() if block.page == page and block.language not in CHECKED]
    assert not unknown

"""Merging files in any groups gives the same result."""

import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import yaml
from hypothesis import strategies as st

from sflow_ctl.format.merged.files import Merged, merge
from sflow_ctl.format.yaml_source import read_source

NAMES = st.sampled_from(["a", "b", "c", "d"])
VARIABLES = st.dictionaries(
    NAMES, st.integers(0, 9) | st.fixed_dictionaries({"value": st.integers(0, 9)}), max_size=3
)
BACKENDS = st.dictionaries(
    NAMES, st.fixed_dictionaries({"type": st.just("local"), "nodes": st.integers(1, 4)}), max_size=2
)


SETTINGS = st.fixed_dictionaries(
    {}, optional={"headroom": st.none() | st.integers(1, 9), "preamble": st.lists(NAMES, max_size=2)}
)


@st.composite
def three_files(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Parts of a workflow, each incomplete, with tasks of different names and variables that replace each other."""
    files: list[dict[str, Any]] = []
    for number in range(3):
        names = draw(st.lists(NAMES, unique=True, max_size=3))
        workflow: dict[str, Any] = {"tasks": [{"name": f"{name}{number}", "script": ["x"]} for name in names]}
        workflow["variables"] = draw(VARIABLES)
        if draw(st.booleans()):
            workflow["name"] = "w"
        if draw(st.booleans()):
            workflow["timeout"] = draw(st.integers(1, 5))
        files.append({"variables": draw(VARIABLES), "backends": draw(BACKENDS), "workflow": workflow})
        if draw(st.booleans()):
            files[-1]["version"] = "0.1"
        settings = draw(SETTINGS)
        if settings:
            files[-1]["settings"] = settings
    return files


def merged(*documents: dict[str, Any]) -> Merged:
    """The merge of documents as files."""
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for number, document in enumerate(documents):
            path = Path(folder, f"{number}.yaml")
            path.write_text(yaml.safe_dump(document, sort_keys=False))
            source, findings = read_source(path)
            assert source is not None
            assert not findings
            sources.append(source)
        return merge(sources)


def as_document(result: Merged) -> dict[str, Any]:
    """Return the result of a merge as a document again."""
    document: dict[str, Any] = {
        section: {item.name: item.body for item in items}
        for section, items in result.sections.items()
        if items
    }
    workflow: dict[str, Any] = {"tasks": [item.body for item in result.tasks]}
    if result.workflow_variables:
        workflow["variables"] = {item.name: item.body for item in result.workflow_variables}
    scalars = {
        "name": result.workflow_name,
        "timeout": result.workflow.body.get("timeout") if result.workflow else None,
    }
    workflow |= {key: value for key, value in scalars.items() if value is not None}
    if result.site:
        document["settings"] = {key: value for key, (value, _) in result.site.items()}
    if result.version is not None:
        document["version"] = result.version
    return {**document, "workflow": workflow}


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(files=three_files())
def test_groups_do_not_matter(files: list[dict[str, Any]]) -> None:
    a, b, c = files
    whole = as_document(merged(a, b, c))
    assert as_document(merged(as_document(merged(a, b)), c)) == whole
    assert as_document(merged(a, as_document(merged(b, c)))) == whole


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(files=three_files())
def test_a_file_merged_alone_is_not_touched(files: list[dict[str, Any]]) -> None:
    once = as_document(merged(files[0]))
    assert as_document(merged(once)) == once

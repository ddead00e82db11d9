"""What an agent looks at before an attempt starts: values that are too large for messages, and copies on a disk of the node."""

import json
from pathlib import Path

import pytest

from protocol.messages.handover import ExpectedFile, ExpectedInput, FoundOutput, RecordedFile, ValueFile
from protocol.messages.rank_spec import TaskFile
from sflow_agent.files.task_files import content_of
from sflow_agent.handover.checking import CheckedFiles, remove_local
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.parts.inputs import inputs_document, inputs_view, resolved
from sflow_ctl.plan.results import InputSource, PlannedInput


def given(kind: str | None, *, is_list: bool = False, argument: str | None = None) -> PlannedInput:
    source = InputSource(
        text="big.outputs.xs", tasks=("big_0", "big_1") if is_list else ("big",), output="xs", is_list=is_list
    )
    return PlannedInput(name="xs", variable="INPUT_XS", sources=(source,), type=kind, argument=argument)  # type: ignore[arg-type]


def large(path: Path, value: object) -> FoundOutput:
    path.write_text(json.dumps(value))
    file = RecordedFile(path=str(path), bytes=path.stat().st_size, mtime_ns=path.stat().st_mtime_ns)
    return FoundOutput(name="xs", kind="param", path=str(path), files=(file,), count=1, is_large=True)


def written(one: PlannedInput, found: dict[str, dict[str, FoundOutput]]) -> dict[str, object]:
    """Return the values of the file with all inputs, as the agent writes it."""
    values = {task: {"xs": named["xs"].path or named["xs"].value} for task, named in found.items()}
    value = resolved(one, values, found)
    content = inputs_document([one], [value], "/run/t")
    file = TaskFile(path="inputs.json", content=content, values=value.large)
    document: dict[str, dict[str, object]] = json.loads(content_of(file))
    return document["values"]


@pytest.mark.parametrize("kind", ["list", "dict", "str"])
def test_a_large_value_is_read_back_where_its_type_is_asked_for(tmp_path: Path, kind: str) -> None:
    value: object = {"list": [1, "a"], "dict": {"a": [1]}, "str": 'x "y" \u20ac'}[kind]
    assert written(given(kind), {"big": {"xs": large(tmp_path / "xs.json", value)}}) == {"xs": value}


def test_without_a_type_and_as_a_path_it_is_the_path_of_its_file(tmp_path: Path) -> None:
    found = {"big": {"xs": large(tmp_path / "xs.json", [1])}}
    assert written(given(None), found) == written(given("path"), found) == {"xs": str(tmp_path / "xs.json")}


def test_large_values_of_copies_stay_at_their_places(tmp_path: Path) -> None:
    small = FoundOutput(name="xs", kind="param", value=[7])
    found = {"big_0": {"xs": small}, "big_1": {"xs": large(tmp_path / "xs.json", [1, 2])}}
    assert written(given("list", is_list=True), found) == {"xs": [[7], [1, 2]]}


def test_a_large_value_is_refused_where_its_text_would_be_needed(tmp_path: Path) -> None:
    found = {"big": {"xs": large(tmp_path / "xs.json", [1])}}
    value = resolved(given("list"), {"big": {"xs": ""}}, found)
    view = inputs_view([given("list")], [value], "/run/t")
    with pytest.raises(ExpressionError, match="too large for expressions"):
        view["xs"]
    assert view["args"] == ""
    with pytest.raises(ExpressionError, match="too large for an option"):
        inputs_view([given("list", argument="--xs")], [value], "/run/t")


def test_the_agent_checks_the_type_of_a_value_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "xs.json"
    path.write_text("[1, 2]")

    def problem(kind: str) -> str:
        value = ValueFile(placeholder="p", path=str(path), type=kind)  # type: ignore[arg-type]
        return CheckedFiles().check([ExpectedInput(name="xs", source="big.outputs.xs", values=(value,))])[0]

    assert problem("list") == ""
    assert problem("dict") == f"its input xs, from big.outputs.xs: wanted dict, got list [1, 2], in {path}"
    path.write_text("[1,")
    assert problem("list").startswith(f"its input xs, from big.outputs.xs: {path} is not JSON")


def test_a_copy_on_the_node_is_made_and_removed_with_its_directories(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_text("content")
    target = tmp_path / "sflow-run/task/data/data"
    one = ExpectedInput(
        name="data",
        source="the file",
        path=str(source),
        files=(ExpectedFile(path=str(source)),),
        stage="local",
        target=str(target),
    )
    assert CheckedFiles().check([one]) == ("", "")
    target.write_text("changed")
    assert source.read_text() == "content"
    remove_local([one])
    assert not (tmp_path / "sflow-run").exists()


def test_a_directory_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    source.write_text("content")
    elsewhere.mkdir()
    (tmp_path / "sflow-run").symlink_to(elsewhere)
    one = ExpectedInput(
        name="data",
        source="the file",
        path=str(source),
        stage="local",
        target=f"{tmp_path}/sflow-run/task/data/data",
    )
    problem, hint = CheckedFiles().check([one])
    assert problem.endswith("sflow-run is another user's, or a link")
    assert "scratch" in hint
    assert not list(elsewhere.rglob("data/data"))

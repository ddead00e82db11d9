"""Tasks that are written one by one, many of them: what they have in common is in memory once, and files do not stay there."""

import gc
from pathlib import Path

import pytest

from sflow_ctl.format import yaml_source
from sflow_ctl.format.loader import LoadedDocument, load_documents
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import plan_run, read_run
from tests.unit.planner.planning import plan_of

HEAD = 'version: "0.1"\nworkflow:\n  name: many\n  tasks:\n'


def test_fields_that_no_task_gives_are_one_object(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        HEAD + "    - {name: a, script: [x], retries: 1}\n"
        "    - {name: b, script: [y], depends_on: [a], main: true}\n"
        "    - {name: c, script: [z], finally: true, labels: {k: v}}\n"
    )
    first, second, third = load_documents([path]).document.workflow.tasks
    assert first.outputs is second.outputs is third.outputs
    assert second.depends_on == ["a"]
    assert (first.main, second.main, third.main) == (False, True, False)
    assert not third.depends_on
    assert (second.finally_, third.finally_) == (False, True)
    assert (first.retries and first.retries.count, second.retries, third.retries) == (1, None, None)
    assert (second.labels, third.labels) == ({}, {"k": "v"})
    assert [one.name for one in (first, second, third)] == ["a", "b", "c"]


def test_equal_places_and_policies_of_tasks_are_one_object(tmp_path: Path) -> None:
    tasks = "".join(
        f"    - {{name: t{n}, script: [x], resources: {{gpus: {{count: {n // 2}}}}}}}\n" for n in range(4)
    )
    plan = plan_of(
        tmp_path, f"workflow:\n  name: many\n  tasks:\n{tasks}", nodes_override=1, gpus_per_node_override=4
    )
    first, second, third, fourth = plan.tasks
    assert first.placement is second.placement
    assert first.placement != third.placement != fourth.placement
    assert first.retries is fourth.retries
    assert first.stopping is fourth.stopping


def test_a_large_file_is_freed_and_its_messages_have_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(HEAD + "    - {name: a, script: [x]}\n    - {name: b, script: [y]}\nsecrets: [NOPE]\n")
    whole = load_documents([path])
    monkeypatch.setattr(yaml_source, "LARGE_CHARACTERS", 0)
    loaded = load_documents([path])
    assert loaded._merged is not None
    (source,) = loaded._merged.sources
    assert source._data is source._root is None
    assert loaded.where("tasks", "b", "script") == f"{path}:6:25  workflow.tasks[1].script"
    assert loaded.where("tasks", "b", "script") == whole.where("tasks", "b", "script")
    assert loaded.secret_where("NOPE") == f"{path}:7:11  secrets[0]"
    assert source.data["workflow"]["tasks"][1] == {"name": "b", "script": ["y"]}
    assert loaded.composed_data() == whole.composed_data()


def test_the_files_of_a_run_are_freed_once_its_plan_is_final(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(HEAD.replace("many", "freed") + "    - {name: a, script: [x]}\n")
    options = RunOptions.of(files=(path,), workspace_dir=tmp_path)
    planned = plan_run(read_run(options), options, is_dry=False)
    assert len(planned.replan("0", (), ("here", "")).tasks) == 1
    planned.replan.end()
    assert not [one for one in gc.get_objects() if _is_read(one)]


def _is_read(one: object) -> bool:
    return isinstance(one, LoadedDocument) and one.document.workflow.name == "freed"

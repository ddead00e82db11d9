"""Blocks of other files: their names, paths of what is beside them, how they are written out, and what is refused where."""

from pathlib import Path

import pytest

from protocol.errors import FleetError
from sflow_ctl.format.compose import compose
from sflow_ctl.format.loader import LoadedDocument, load_documents
from sflow_ctl.format.schema import Task

MAIN = """\
version: "0.1"
include: {fit: lib/fit.yaml}
workflow:
  name: main
  tasks:
    one: {block: fit.train, with: {n: 3}}
    two: {block: fit, with: {n: 4}}
"""
FIT = """\
version: "0.1"
include: {deep: more/deep.yaml}
workflow:
  name: fit
  inputs: {n: int, m: {default: 2}}
  outputs: {sum: add.outputs.sum, double: "${{ task.add.outputs.sum * workflow.inputs.n }}"}
  blocks:
    train:
      inputs: {n: int}
      outputs: {loss: "${{ task.t.outputs.v }}"}
      tasks:
        t: {python: "fit.py:main", packages: pack, outputs: {v: {type: int}}}
        u: {block: deep.say}
  tasks:
    - {name: a, block: train, with: {n: "${{ workflow.inputs.n }}"}}
    - {name: add, depends_on: a, script: "echo ${{ workflow.inputs['n'] }}", outputs: {sum: {type: int}}}
"""
DEEP = """\
version: "0.1"
workflow:
  blocks:
    say: {tasks: {s: {python: {file: say.py}}}}
"""
LIBRARY = 'version: "0.1"\nworkflow: {blocks: {b: {tasks: {t: {script: x}}}}}\n'


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "main.yaml"


def fitted(folder: Path) -> LoadedDocument:
    return load_documents([write(folder, main=MAIN, lib__fit=FIT, lib__more__deep=DEEP)])


def tasks_of(loaded: LoadedDocument) -> dict[str, Task]:
    return {task.name: task for task in loaded.document.workflow.tasks}


def refused(path: Path) -> list[str]:
    try:
        load_documents([path])
    except FleetError as error:
        return [f"{(one.where or '').partition('  ')[0]}: {one.code}: {one.what}" for one in error.findings]
    raise AssertionError("it was loaded")


def test_blocks_of_an_included_file_have_its_prefix(tmp_path: Path) -> None:
    loaded = fitted(tmp_path)
    assert [one.name for one in loaded.document.workflow.blocks] == ["fit.train", "fit", "fit.deep.say"]
    tasks = tasks_of(loaded)
    assert tasks["fit~a"].block == "fit.train"
    assert tasks["fit.train~u"].block == "fit.deep.say"


def test_a_workflow_is_a_block_with_its_inputs_and_outputs(tmp_path: Path) -> None:
    loaded = fitted(tmp_path)
    block = next(one for one in loaded.document.workflow.blocks if one.name == "fit")
    assert {name: (one.type, one.default) for name, one in block.inputs.items()} == {
        "n": ("int", None),
        "m": (None, 2),
    }
    assert block.outputs == {
        "sum": "${{ task['fit~add'].outputs.sum }}",
        "double": "${{ task['fit~add'].outputs.sum * block.inputs.n }}",
    }
    tasks = tasks_of(loaded)
    assert tasks["fit~add"].script == ["echo ${{ block.inputs['n'] }}"]
    assert tasks["fit~a"].with_ == {"n": "${{ block.inputs.n }}"}


def test_code_beside_an_included_file_is_found_there(tmp_path: Path) -> None:
    tasks = tasks_of(fitted(tmp_path))
    assert f"{tmp_path}/lib/fit.py:main" in tasks["fit.train~t"].script[0]
    assert tasks["fit.train~t"].packages == [f"{tmp_path}/lib/pack"]
    assert f"{tmp_path}/lib/more/say.py:main" in tasks["fit.deep.say~s"].script[0]


def test_a_composed_workflow_needs_no_included_file(tmp_path: Path) -> None:
    loaded = fitted(tmp_path)
    for text in (compose(loaded), loaded.recorded_yaml()):
        alone = tmp_path / "alone.yaml"
        alone.write_text(text)
        again = load_documents([alone])
        assert again.document == loaded.document
        assert not again.included_files
    assert loaded.included_files == [tmp_path / "lib/fit.yaml", tmp_path / "lib/more/deep.yaml"]


def test_a_file_may_be_included_under_several_prefixes(tmp_path: Path) -> None:
    main = MAIN.replace("{fit: lib/fit.yaml}", "{fit: lib/fit.yaml, other: lib/fit.yaml}")
    loaded = load_documents([write(tmp_path, main=main, lib__fit=FIT, lib__more__deep=DEEP)])
    names = [one.name for one in loaded.document.workflow.blocks]
    assert "fit.deep.say" in names
    assert "other.deep.say" in names
    assert len(loaded.included_files) == 2


def test_several_files_may_include_the_same_one(tmp_path: Path) -> None:
    first = write(tmp_path, main=MAIN, lib__fit=FIT, lib__more__deep=DEEP)
    second = tmp_path / "second.yaml"
    second.write_text('version: "0.1"\ninclude: {fit: ./lib/fit.yaml}\n')
    assert len(load_documents([first, second]).document.workflow.blocks) == 3
    (tmp_path / "library.yaml").write_text(LIBRARY)
    second.write_text('version: "0.1"\ninclude: {fit: library.yaml}\n')
    with pytest.raises(FleetError, match='"fit" is the prefix of two included files'):
        load_documents([first, second])


def test_files_that_include_each_other_are_refused_with_the_path(tmp_path: Path) -> None:
    main = MAIN.replace("lib/fit.yaml", "a.yaml")
    inner = LIBRARY.replace("workflow:", "include: {next: FILE}\nworkflow:")
    path = write(tmp_path, main=main, a=inner.replace("FILE", "b.yaml"), b=inner.replace("FILE", "a.yaml"))
    cycle = f"{tmp_path}/a.yaml -> {tmp_path}/b.yaml -> {tmp_path}/a.yaml"
    assert f"{tmp_path}/b.yaml:2:17: cycle: files include each other: {cycle}" in refused(path)
    path = write(tmp_path, main=MAIN.replace("lib/fit.yaml", "main.yaml"))
    assert refused(path)[0].startswith(f"{path}:2:16: cycle: files include each other: {path} -> {path}")


@pytest.mark.parametrize(
    ("include", "library", "problem"),
    [
        (
            "[a.yaml]",
            LIBRARY,
            "main.yaml:2:10: wrong-type: include must be a mapping from prefixes to files",
        ),
        (
            "{fit: gone.yaml}",
            LIBRARY,
            "main.yaml:2:16: file-not-found: the included file FOLDER/gone.yaml does not exist",
        ),
        ("{fit: 3}", LIBRARY, 'main.yaml:2:16: wrong-value: the file that is included as "fit" must be a path'),
        ('{"a.b": a.yaml}', LIBRARY, '"a.b" cannot be the prefix of an included file'),
        ('{fit: "${{ X }}.yaml"}', LIBRARY, "has an expression: files are read before values are known"),
        ("{fit: a.yaml}", "[]\n", "the included file FOLDER/a.yaml is not a mapping"),
        (
            "{fit: a.yaml}",
            LIBRARY.replace('version: "0.1"', ""),
            "unsupported-version: the included file FOLDER/a.yaml has no version",
        ),
        (
            "{fit: a.yaml}",
            LIBRARY.replace("0.1", "0.9"),
            "a.yaml:1:10: unsupported-version: the included file FOLDER/a.yaml has version 0.9",
        ),
        ("{fit: a.yaml}", 'version: "0.1"\n', "the included file FOLDER/a.yaml has no workflow"),
        (
            "{fit: a.yaml}",
            'version: "0.1"\nworkflow: {name: x}\n',
            "the included file FOLDER/a.yaml has neither blocks nor tasks",
        ),
        (
            "{fit: a.yaml}",
            LIBRARY + "variables: {A: 1}\n",
            'a.yaml:3:1: unknown-key: "variables" of an included file is not taken',
        ),
        (
            "{fit: a.yaml}",
            LIBRARY.replace("{blocks", "{timeout: 3, blocks"),
            'a.yaml:2:12: unknown-key: "timeout" of an included file is not taken',
        ),
        (
            "{fit: a.yaml}",
            LIBRARY.replace("script", "scrip"),
            'a.yaml:2:44: unknown-key: unknown key "scrip"',
        ),
        (
            "{fit: a.yaml}",
            LIBRARY.replace("script: x", 'script: "${{ 1 + }}"'),
            "a.yaml:2:45: expression-syntax",
        ),
        (
            "{fit: a.yaml}",
            LIBRARY.replace("{blocks", "{outputs: {o: {from: [t.outputs.a, t.outputs.b]}}, tasks: {t: {script: x}}, blocks"),
            "a.yaml:2:25: wrong-value: output \"o\" of the included workflow is more than one output of a task",
        ),
        ("{fit: a.yaml}", LIBRARY, 'stands for block "fit.train", which there is not'),
    ],
)  # fmt: skip
def test_what_is_refused_of_includes(tmp_path: Path, include: str, library: str, problem: str) -> None:
    path = write(tmp_path, main=MAIN.replace("{fit: lib/fit.yaml}", include), a=library)
    found = refused(path)
    assert any(problem.replace("FOLDER", str(tmp_path)) in one for one in found), found


def test_a_block_with_the_name_of_an_included_one_is_refused(tmp_path: Path) -> None:
    own = MAIN.replace("  tasks:\n", "  blocks: {fit: {tasks: {t: {script: x}}}}\n  tasks:\n")
    path = write(tmp_path, main=own, lib__fit=FIT, lib__more__deep=DEEP)
    assert any('block "fit" is defined twice' in one for one in refused(path))


def test_more_files_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sflow_ctl.format.merged.includes.MAX_FILES", 1)
    path = write(tmp_path, main=MAIN, lib__fit=FIT, lib__more__deep=DEEP)
    assert any("more than 1 files are included" in one for one in refused(path))


def test_a_pipe_includes_files_of_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, lib__fit=FIT, lib__more__deep=DEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sflow_ctl.format.yaml_source._standard_input", MAIN.encode)
    assert len(load_documents([Path("-")]).document.workflow.blocks) == 3

"""Values of variables reach tasks as they were written, and still calculate as numbers."""

import copy
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from sflow_ctl.format.compose import compose
from sflow_ctl.format.loader import LoadedDocument, load_documents
from sflow_ctl.format.merged.overrides import infer
from sflow_ctl.format.written import as_written, number_or_text, plain, written
from sflow_ctl.format.yaml_source import dump, read_source
from sflow_ctl.format.yaml_values import plain_scalar, unquoted
from sflow_ctl.planner.phases.variables import environment_text

TASKS = "workflow: {name: w, tasks: [{name: a, script: [x]}]}\n"


def loaded(tmp_path: Path, text: str, *overrides: str) -> LoadedDocument:
    path = tmp_path / "w.yaml"
    path.write_text(f'version: "0.1"\n{text}{TASKS}')
    return load_documents([path], overrides)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("25.10", 25.1),
        ("0123456", 42798),
        ("1_0", 10),
        ("+5", 5),
        ("0x1F", 31),
        ("1e5", 100000.0),
        ("1e-4", 0.0001),
        ("3.", 3.0),
        ("25.1", 25.1),
        ("7", 7),
    ],
)
def test_public_04_a_number_in_a_file_prints_as_its_source(text: str, number: object, tmp_path: Path) -> None:
    (variable,) = loaded(tmp_path, f"variables: {{V: {text}}}\n").document.variables
    assert variable.value == number
    assert str(variable.value) == text


@pytest.mark.parametrize("text", ["83e2010", "7e12345", "12e9999", "-1e400", "2026-11-05", "infinity", "nan"])
def test_public_04_what_no_number_can_hold_is_text(text: str, tmp_path: Path) -> None:
    (variable,) = loaded(tmp_path, f"variables: {{V: {text}}}\n").document.variables
    assert variable.value == text
    assert type(infer(text)) is str


@pytest.mark.parametrize(
    "text", ["9" * 300, "-" + "9" * 5000, "0x" + "f" * 5000, "0b" + "1" * 20000, "0" + "7" * 6000]
)
def test_public_04_more_digits_than_a_number_has_are_text(text: str, tmp_path: Path) -> None:
    (variable,) = loaded(tmp_path, f"variables: {{V: {text}}}\n").document.variables
    assert variable.value == text
    assert type(infer(text)) is str


@pytest.mark.parametrize(
    "text", ["83e2010", "infinity", "-inf", "NaN", "2026_11_05", "0123456", "1_0", "00", "1e", "0x1F"]
)
def test_public_04_an_override_that_is_not_a_plain_number_is_text(text: str) -> None:
    assert infer(text) == text


@pytest.mark.parametrize(
    ("text", "value"), [("25.10", 25.1), ("1e5", 1e5), ("7", 7), ("-3", -3), (".5", 0.5)]
)
def test_public_05_an_override_keeps_its_spelling(text: str, value: float) -> None:
    assert infer(text) == value
    assert str(infer(text)) == text


@pytest.mark.parametrize("kind", ["string", "str"])
@pytest.mark.parametrize("text", ["25.10", "yes", "Off", "012", "1_0", "0x1F", "1e5", ".inf", "true"])
def test_public_05_type_string_keeps_the_text_of_the_file(text: str, kind: str, tmp_path: Path) -> None:
    body = f"{{value: {text}, type: {kind}, domain: [{text}, other]}}"
    (variable,) = loaded(tmp_path, f"variables: {{V: {body}}}\n").document.variables
    assert variable.value == text
    assert variable.domain == [text, "other"]
    (variable,) = loaded(
        tmp_path, f"variables: [{{name: V, type: {kind}, value: {text}}}]\n"
    ).document.variables
    assert variable.value == text
    (variable,) = loaded(
        tmp_path, f"variables: {{V: {{value: x, type: {kind}}}}}\n", f"V={text}"
    ).document.variables
    assert variable.value == text


def test_public_05_variables_of_tasks_and_lists_of_overrides_are_kept_too(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        'version: "0.1"\nvariables: {T: 1}\nworkflow:\n  name: w\n  tasks:\n'
        "    - {name: a, script: [x], variables: {V: 25.10, W: {value: on, type: string}}}\n"
        "    - {name: b, script: [x], variables: [{name: V, value: 012}]}\n"
        "    - {name: c, uses: redis, with: {args: 1_0}}\n"
    )
    document = load_documents([path], ["T=[25.08, 25.10]"]).document
    assert [str(one) for one in document.variables[0].domain or ()] == ["25.08", "25.10"]
    a, b, _ = document.workflow.tasks
    assert [str(one.value) for one in (*a.variables, *b.variables)] == ["25.10", "on", "012"]


def test_public_05_compose_writes_the_source(tmp_path: Path) -> None:
    text = "variables: {A: 25.10, B: {value: 012, type: string}, C: 83e2010, D: 1e5, E: 1}\n"
    document = loaded(tmp_path, text, "E=25.20")
    for is_resolved in (False, True):
        path = tmp_path / "composed.yaml"
        path.write_text(compose(document, is_resolved))
        again = load_documents([path]).document.variables
        assert [str(one.value) for one in again] == ["25.10", "012", "83e2010", "1e5", "25.20"]


def test_a_value_of_the_domain_may_be_spelled_differently(tmp_path: Path) -> None:
    loaded(tmp_path, "variables: {A: {value: 0.5, domain: [0.50, 1]}, B: {value: 25.10, domain: [25.10]}}\n")


def test_a_kept_number_is_copied_and_made_plain() -> None:
    value = written(25.1, "25.10")
    assert str(copy.deepcopy([value])[0]) == "25.10"
    assert type(plain({"a": [value, written(10, "1_0")]})["a"][0]) is float
    assert as_written({"a": [value, 7]}) == {"a": ["25.10", 7]}


SCALARS = st.from_regex(r"[-+]?[0-9._eExXabof]{1,12}", fullmatch=True)


@hypothesis.given(text=SCALARS)
def test_any_number_prints_as_it_was_written(text: str) -> None:
    for value in (number_or_text(text), written(plain_scalar(text), text)):
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert str(value) == text


@hypothesis.settings(deadline=None)
@hypothesis.given(text=SCALARS)
def test_a_dumped_number_reads_back_as_itself(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("dump") / "a.yaml"
    value: Any = number_or_text(text)
    path.write_text(dump({"a": value}))
    source, findings = read_source(path)
    assert source is not None
    assert not findings
    assert str(written(source.data["a"], unquoted(source.node(("a",))))) == text


NESTED = "{list: [25.10, 010, 1e5, yes], map: {tag: 25.10, deep: [{k: 2.50}]}, 7: 1_0}"


def test_public_04_numbers_within_lists_and_mappings_keep_their_text(tmp_path: Path) -> None:
    (variable,) = loaded(tmp_path, f"variables: {{V: {{value: {NESTED}}}}}\n").document.variables
    value = variable.value
    assert value == {"list": [25.1, 8, 1e5, True], "map": {"tag": 25.1, "deep": [{"k": 2.5}]}, 7: 10}
    assert [str(one) for one in value["list"]] == ["25.10", "010", "1e5", "True"]
    assert (str(value["map"]["tag"]), str(value["map"]["deep"][0]["k"])) == ("25.10", "2.50")
    assert str(value["list"]) == "[25.10, 010, 1e5, True]"
    assert environment_text(value["list"]) == "[25.10,8,1e5,true]"  # 010 is no number in JSON


def test_public_04_merge_keys_and_aliases_are_read_as_before(tmp_path: Path) -> None:
    text = "variables: {V: {value: {a: &one {x: 1.10}, b: *one, c: {<<: *one, y: 2.20}}}}\n"
    (variable,) = loaded(tmp_path, text).document.variables
    assert variable.value == {"a": {"x": 1.1}, "b": {"x": 1.1}, "c": {"x": 1.1, "y": 2.2}}
    assert [str(variable.value[key]["x"]) for key in "ab"] == ["1.10", "1.10"]


def test_public_04_compose_keeps_numbers_within_lists(tmp_path: Path) -> None:
    document = loaded(tmp_path, f"variables: {{V: {{value: {NESTED}}}}}\n")
    path = tmp_path / "composed.yaml"
    path.write_text(compose(document))
    (again,) = load_documents([path]).document.variables
    assert str(again.value) == str(document.document.variables[0].value)


def test_public_05_json_of_the_command_line_reaches_tasks_as_written(tmp_path: Path) -> None:
    text = "variables: {M: {value: {a: 1}}, L: [1, 2], S: 5, T: {type: list, value: []}}\n"
    overrides = ('M={"tag": 25.10}', "L=[25.10, 3]", "S=[25.10, 3]", "T=[1.50]")
    m, several, swept, typed = loaded(tmp_path, text, *overrides).document.variables
    assert environment_text(m.value) == '{"tag":25.10}'
    assert (environment_text(several.value), several.domain) == ("[25.10,3]", None)
    assert (environment_text(typed.value), typed.domain) == ("[1.50]", None)
    assert (str(swept.value), [str(one) for one in swept.domain or ()]) == ("25.10", ["25.10", "3"])

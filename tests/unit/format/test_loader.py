"""Reading files: every finding at once, each with its place; only findings for any bytes."""

from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from protocol.errors import SpecError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.format.schema import Task

GOOD = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: a, script: [x]}]}\n'


def findings(path: Path, *overrides: str) -> list[str]:
    """Codes and places of everything that is wrong."""
    with pytest.raises(SpecError) as raised:
        load_documents([path], overrides)
    return [f"{f.code} {(f.where or '').removeprefix(str(path.parent) + '/')}" for f in raised.value.findings]


def test_all_findings_of_a_file_are_shown_at_once(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        'version: "0.1"\n'
        "variabels: {}\n"
        "backends:\n"
        "  b: {type: lokal}\n"
        "workflow:\n"
        "  name: w\n"
        "  tasks:\n"
        "    - name: a\n"
        "      script: {echo: 1}\n"
        "      retries: {count: 1}\n"
        "    - name: b\n"
        "      script: [1, x, {k: [v]}]\n"
        "      resources: {gpus: {count: [1]}, fans: 4}\n"
    )
    assert findings(path) == [
        "unknown-key w.yaml:2:1  variabels",
        "wrong-value w.yaml:4:13  backends.b.type",
        "wrong-type w.yaml:9:15  workflow.tasks[0].script",
        "missing-key w.yaml:10:16  workflow.tasks[0].retries.interval",
        "wrong-type w.yaml:12:16  workflow.tasks[1].script[0]",
        "wrong-type w.yaml:12:22  workflow.tasks[1].script[2]",
        "wrong-type w.yaml:13:33  workflow.tasks[1].resources.gpus.count",
        "unknown-key w.yaml:13:45  workflow.tasks[1].resources.fans",
    ]


def test_rules_are_checked_together_too(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        'version: "0.1"\n'
        "workflow:\n"
        "  name: a/b\n"
        "  tasks:\n"
        "    - {name: a, script: [x], depends_on: [b, c]}\n"
        "    - {name: d, script: [x], operator: o, backend: p}\n"
    )
    assert findings(path) == [
        "unsafe-name w.yaml:3:9  workflow.name",
        "unknown-operator w.yaml:6:40  workflow.tasks[1].operator",
        "unknown-dependency w.yaml:5:43  workflow.tasks[0].depends_on[0]",
        "unknown-dependency w.yaml:5:46  workflow.tasks[0].depends_on[1]",
        "unknown-backend w.yaml:6:52  workflow.tasks[1].backend",
    ]


@pytest.mark.parametrize("name", ["sflow.log", "sflow_summary.log"])
def test_a_task_cannot_have_the_name_of_a_file_of_the_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(f'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n    - {{name: {name}, script: [x]}}\n')
    assert findings(path) == ["unsafe-name w.yaml:5:14  workflow.tasks[0].name"]


def test_findings_of_a_second_file_name_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text("operators:\n  o: {type: nope}\n")
    with pytest.raises(SpecError) as raised:
        load_documents([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert [f.where for f in raised.value.findings] == [f"{tmp_path}/b.yaml:2:13  operators.o.type"]


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as raised:
        load_documents([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert [f.code for f in raised.value.findings] == ["file-not-found", "file-not-found"]
    assert raised.value.exit_status == 2


def test_one_unchanged_file_is_kept_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(GOOD + "# a comment\n")
    assert load_documents([tmp_path / "w.yaml"]).composed_yaml() == GOOD + "# a comment\n"


def test_merging_three_files_is_the_same_however_they_are_grouped(tmp_path: Path) -> None:
    parts = {
        "a.yaml": GOOD + "variables: {A: 1, B: 1}\n",
        "b.yaml": "variables: {B: 2, C: 2}\nworkflow: {tasks: {b: {script: [y]}}}\n",
        "c.yaml": "variables: {C: 3}\nworkflow: {timeout: 5, tasks: {c: {script: [z]}}}\n",
    }
    for name, text in parts.items():
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in parts]
    (tmp_path / "ab.yaml").write_text(load_documents(paths[:2]).composed_yaml())
    whole = load_documents(paths).document
    assert load_documents([tmp_path / "ab.yaml", paths[2]]).document == whole
    assert [(v.name, v.value) for v in whole.variables] == [("A", 1), ("B", 2), ("C", 3)]


PIECES = st.sampled_from(
    [
        'version: "0.1"', "workflow:", "  name: w", "  tasks:", "    - name: a", "      script: [x]", "- ", ": ", "? ",
        "{", "}", "[", "]", "&a ", "*a", "!!python/object:os.system ", "!x ", "<<: *a", "|", ">", "\t", "${{ ", " }}",
        "{% raw %}", "~", "1e999", "0x", "'", '"', "\\x", "# ", "---", "...", "%YAML 1.1", "\x00", "é", "\ufeff", "\n  ",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples."""
    return tmp_path_factory.mktemp("fuzz") / "w.yaml"


def survives(file: Path, data: bytes) -> None:
    """Loading ends in a document or in findings with codes."""
    file.write_bytes(data)
    refusal = None
    try:
        load_documents([file])
    except SpecError as error:
        refusal = error
    if refusal is not None:
        assert refusal.findings
        assert all(finding.code and finding.what for finding in refusal.findings)


@hypothesis.settings(deadline=1000, max_examples=400)
@hypothesis.given(data=st.binary(max_size=120))
def test_any_bytes_are_a_document_or_findings(file: Path, data: bytes) -> None:
    survives(file, data)


@hypothesis.settings(deadline=1000, max_examples=600)
@hypothesis.given(parts=st.lists(st.one_of(PIECES, st.just("\n")), max_size=25))
def test_any_pieces_of_yaml_are_a_document_or_findings(file: Path, parts: list[str]) -> None:
    survives(file, "".join(parts).encode())


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("${{ A }}")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "value", "type", "count", "gpus", "nodes", "tcp_port", "port", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.sampled_from([field for field in Task.__struct_fields__ if field != "name"])


@hypothesis.settings(deadline=1000, max_examples=400)
@hypothesis.given(body=st.dictionaries(FIELDS, VALUES, max_size=4), top=VALUES)
def test_any_values_are_a_document_or_findings(file: Path, body: dict[str, object], top: object) -> None:
    from sflow_ctl.format.yaml_source import dump

    document = {
        "version": "0.1",
        "variables": top,
        "backends": top,
        "workflow": {"name": "w", "tasks": [{"name": "a", "script": ["x"]}, {"name": "b", **body}]},
    }
    survives(file, dump(document).encode("utf-8", "surrogatepass"))


def test_problems_of_yaml_keys_types_and_names_are_found_together(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        'version: "0.1"\n'
        "variables: {A: 1, A: 2}\n"
        "workflow:\n"
        "  name: w\n"
        "  tasks:\n"
        "    - {name: a, script: [x], main: [3], timeout: [1]}\n"
        "    - {name: b, script: [x], depends_on: [nope]}\n"
        "    - {name: b, script: [y]}\n"
    )
    assert sorted(findings(path)) == [
        "duplicate-key w.yaml:2:19",
        "duplicate-task w.yaml:7:7  workflow.tasks[1]",
        "unknown-dependency w.yaml:7:43  workflow.tasks[1].depends_on[0]",
        "wrong-type w.yaml:6:36  workflow.tasks[0].main",
        "wrong-type w.yaml:6:50  workflow.tasks[0].timeout",
    ]


def test_a_misspelled_key_is_not_also_missing(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text('version: "0.1"\nworkflow: {name: w, tasks: [{name: a, scirpt: [x]}]}\n')
    with pytest.raises(SpecError) as caught:
        load_documents([path])
    (finding,) = caught.value.findings
    assert (finding.what, finding.hint) == ('unknown key "scirpt"', 'did you mean "script"?')


def test_short_forms_are_the_long_ones(tmp_path: Path) -> None:
    short, long = tmp_path / "short.yaml", tmp_path / "long.yaml"
    head = 'version: "0.1"\nvariables: {N: 3}\nworkflow:\n  name: w\n  tasks:\n'
    short.write_text(
        f"{head}    - name: a\n      script: |\n        one\n        two\n      retries: 3\n"
        "      outputs: {pattern: 'x {y}'}\n"
        "    - {name: b, script: x, depends_on: a, replicas: '${{ N }}', resources: {gpus: 2, nodes: 1}}\n"
        "    - {name: c, script: x, depends_on: {task: a, until: failed}, replicas: '4', retries: 0}\n"
    )
    long.write_text(
        f"{head}    - name: a\n      script:\n        - |\n          one\n          two\n"
        "      retries: {count: 3, interval: 1s}\n      outputs: [{pattern: 'x {y}'}]\n"
        "    - {name: b, script: [x], depends_on: [a], replicas: {count: '${{ N }}'},\n"
        "       resources: {gpus: {count: 2}, nodes: {count: 1}}}\n"
        "    - {name: c, script: [x], depends_on: [{task: a, until: failed}], replicas: {count: '4'},\n"
        "       retries: {count: 0, interval: 1s}}\n"
    )
    assert load_documents([short]).document == load_documents([long]).document


def test_problems_in_a_short_form_have_their_place(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n'
        "    - {name: a, script: x, depends_on: nope}\n"
        "    - {name: b, script: 3, replicas: [1], retries: true}\n"
    )
    assert findings(path) == [
        "wrong-type w.yaml:6:25  workflow.tasks[1].script",
        "wrong-type w.yaml:6:38  workflow.tasks[1].replicas",
        "wrong-type w.yaml:6:52  workflow.tasks[1].retries",
        "unknown-dependency w.yaml:5:40  workflow.tasks[0].depends_on[0]",
    ]


@pytest.mark.parametrize(
    ("pattern", "is_told"),
    [
        ("'(.+?): (\\d+) ms'", True),
        ("'ready .*'", True),
        ("'re:ready .*'", False),
        ("ready", False),
        ("'${{ P }}'", False),
    ],
)
def test_n6_a_regex_pattern_that_is_searched_as_text_is_warned_of(
    pattern: str, is_told: bool, tmp_path: Path
) -> None:
    for shape in (
        "readiness: {log_watch: {regex_pattern: %s}}",
        "failure: {any: [{log_watch: {regex_pattern: %s}}]}",
    ):
        path = tmp_path / "w.yaml"
        path.write_text(
            'version: "0.1"\nvariables: {P: x}\n'
            "workflow: {name: w, tasks: [{name: t, script: [x], probes: {" + shape % pattern + "}}]}\n"
        )
        warnings = load_documents([path]).warnings
        assert len(warnings) == is_told
        for one in warnings:
            assert one.code == "regex-as-text"
            assert "is searched as plain text" in one.what
            assert "re:" in str(one.hint)
            assert str(one.where).startswith(f"{path}:3:")


def test_secrets_of_all_files_are_names_and_stay_in_composed_files(tmp_path: Path) -> None:
    one, two = tmp_path / "w.yaml", tmp_path / "site.yaml"
    one.write_text("secrets: [HF_TOKEN, PASWORD]\nvariables: {PASSWORD: x}\n" + GOOD)
    two.write_text("secrets: [HF_TOKEN, OTHER]\n")
    loaded = load_documents([one, two])
    assert loaded.document.secrets == ["HF_TOKEN", "PASWORD", "OTHER"]
    (warning,) = loaded.warnings
    assert warning.what == 'secrets: "PASWORD" is not a variable of this file'
    assert warning.hint == 'did you mean "PASSWORD"?'
    assert warning.where == f"{one}:1:21  secrets[1]"
    assert "secrets:\n- HF_TOKEN\n" in loaded.composed_yaml()
    two.write_text("secrets: {A: 1}\n")
    with pytest.raises(SpecError) as caught:
        load_documents([one, two])
    assert [finding.code for finding in caught.value.findings] == ["wrong-type"]
    two.write_text("secrets: [1]\n")
    with pytest.raises(SpecError) as caught:
        load_documents([one, two])
    assert [finding.code for finding in caught.value.findings] == ["wrong-type"]


def test_ux_13_short_forms_mean_the_long_ones(tmp_path: Path) -> None:
    short, long = tmp_path / "short.yaml", tmp_path / "long.yaml"
    head = (
        'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n    - {name: a, script: [x]}\n    - name: b\n      '
    )
    short.write_text(
        head
        + "script: 'echo hi'\n      depends_on: a\n      retries: 3\n      replicas: 2\n      resources: {gpus: 2, nodes: 1}\n"
    )
    long.write_text(
        head
        + "script: ['echo hi']\n      depends_on: [a]\n      retries: {count: 3, interval: 1s}\n      replicas: {count: 2}\n"
        + "      resources: {gpus: {count: 2}, nodes: {count: 1}}\n"
    )
    assert load_documents([short]).document == load_documents([long]).document


def test_ux_13_what_is_no_short_form_says_which_forms_there_are(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    for field, hint in (
        ("replicas: many", "a number, or a mapping"),
        ("retries: often", "a number, or a mapping"),
        ("resources: {fans: 2}", "allowed here: "),
    ):
        path.write_text(
            f'version: "0.1"\nworkflow: {{name: w, tasks: [{{name: a, script: [x], {field}}}]}}\n'
        )
        with pytest.raises(SpecError) as caught:
            load_documents([path])
        assert str(caught.value.findings[0].hint).startswith(hint)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("max_parallel: 2, tasks: [{name: a, script: [x]}]", 'did you mean "max_running"?'),
        ("gpu_budget: 2, tasks: [{name: a, script: [x]}]", "sweep: {gpu_budget: N}"),
        ("tasks: [{name: a, script: [x], replicas: {count: 3, max_parallel: 2}}]", "workflow.max_running"),
    ],
)
def test_a_limit_in_another_place_points_to_its_own(line: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(f'version: "0.1"\nworkflow: {{name: w, {line}}}\n')
    with pytest.raises(SpecError) as caught:
        load_documents([path])
    (finding,) = caught.value.findings
    assert finding.code == "unknown-key"
    assert hint in str(finding.hint)

"""Everything that is wrong with a workflow is reported at once, whichever stage finds it; nothing that only follows from it."""

from pathlib import Path

from protocol.errors import Finding, FleetError
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import plan_run, read_run

HEAD = 'version: "0.1"\nvariables: {PORT: 1}\nworkflow:\n  name: w\n  tasks:\n'


def findings_of(tmp_path: Path, text: str) -> tuple[Finding, ...]:
    path = tmp_path / "w.yaml"
    path.write_text(HEAD + text)
    options = RunOptions.of(files=(path,), workspace_dir=tmp_path)
    try:
        plan_run(read_run(options), options, is_dry=True)
    except FleetError as error:
        return error.findings
    return ()


def fields_of(findings: tuple[Finding, ...]) -> list[str]:
    """Return what each is about, as `code field`."""
    return [f"{one.code} {str(one.where).partition('  workflow.tasks')[2]}" for one in findings]


def test_ux_12_a_wrong_type_does_not_hide_a_wrong_value_of_the_same_task(tmp_path: Path) -> None:
    text = "    - {name: a, script: [x], timeout: soon, retries: {count: 1}}\n"
    assert fields_of(findings_of(tmp_path, text)) == [
        "missing-key [0].retries.interval",
        "wrong-value [0].timeout",
    ]


def test_ux_12_every_cycle_is_reported(tmp_path: Path) -> None:
    edges = (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("e", "e"))
    text = "".join(f"    - {{name: {one}, script: [x], depends_on: {other}}}\n" for one, other in edges)
    found = findings_of(tmp_path, text)
    assert {one.code for one in found} <= {"cycle"}
    assert sorted(one.what.rpartition(": ")[2] for one in found) == [
        "a depends on b, b depends on a",
        "c depends on d, d depends on c",
        "e depends on e",
    ]


def test_ux_12_a_cycle_is_reported_beside_a_dependency_that_does_not_exist(tmp_path: Path) -> None:
    found = findings_of(
        tmp_path,
        "    - {name: a, script: [x], depends_on: [b, nosuch]}\n    - {name: b, script: [x], depends_on: [a]}\n",
    )
    assert [one.code for one in found] == ["unknown-dependency", "cycle"]


def test_ux_12_values_of_several_tasks_and_stages(tmp_path: Path) -> None:
    text = (
        "    - {name: a, script: ['${{ PROT }} ${{ POTR }}'], timeout: soon}\n"
        "    - {name: b, script: [x], replicas: many, depends_on: [nosuch]}\n"
        "    - {name: c, script: [x], script: [y], resources: {gpus: 1, nodes: x}}\n"
        "    - {name: c, script: [x]}\n"
    )
    found = fields_of(findings_of(tmp_path, text))
    assert sorted(found) == sorted(
        [
            "duplicate-key ",
            "wrong-type [1].replicas",
            "duplicate-task [2]",
            "unknown-dependency [1].depends_on[0]",
            "undefined-name [0].script[0]",
            "undefined-name [0].script[0]",
            "wrong-value [0].timeout",
            "wrong-type [2].resources.nodes",
        ]
    )


def test_ux_12_nothing_is_reported_that_only_follows(tmp_path: Path) -> None:
    text = (
        "    - {name: a, script: [x], prots: {http: 1}}\n"
        "    - {name: b, script: ['${{ task.a.port.http }}'], depends_on: [a]}\n"
    )
    assert fields_of(findings_of(tmp_path, text)) == ["unknown-key [0].prots"]
    probes = "    - {name: a, script: [x], probes: {readiness: {tcp_prt: {port: 1}}}}\n"
    assert fields_of(findings_of(tmp_path, probes)) == ["unknown-key [0].probes.readiness.tcp_prt"]
    script = "    - {name: a, scirpt: [x]}\n    - {name: b, script: [x], depends_on: a}\n"
    assert fields_of(findings_of(tmp_path, script)) == ["unknown-key [0].scirpt"]


def test_ux_12_a_misspelled_section_hides_no_error_and_invents_none(tmp_path: Path) -> None:
    text = "    - {name: a, script: ['${{ NEW }}'], timeout: soon}\nvaribles: {NEW: 1}\n"
    assert [one.code for one in findings_of(tmp_path, text)] == ["unknown-key", "wrong-value"]


def test_ux_12_wrong_cpus_do_not_hide_wrong_memory(tmp_path: Path) -> None:
    text = "    - {name: a, script: [x], resources: {cpus: many, memory: much}}\n"
    assert fields_of(findings_of(tmp_path, text)) == [
        "wrong-value [0].resources.cpus",
        "wrong-value [0].resources.memory",
    ]

"""Operators, probes and artifact schemes of plug-ins in plans."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Finding, SpecError
from protocol.messages.checks import ExecCheck
from protocol.plugins import ARTIFACT_SCHEMES, OPERATORS, PROBES, FoundPlugin, PluginError, TaskFacts
from sflow_ctl.plan.fetches import PluginFetch
from sflow_ctl.plan.model import Plan
from tests.unit.planner.planning import findings_of, plan_of


class Installed:
    """Plug-ins that answer with what a test gives them; they note what they were given."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.given: list[tuple[list[str], TaskFacts]] = []

    def find(self, group: str, name: str) -> FoundPlugin:
        if name == "unknown":
            raise PluginError(f"no {group} called unknown", "install it")
        return FoundPlugin(self, f"{name} of a package 1.0")

    def render(self, command: Sequence[str], instance: TaskFacts) -> tuple[Sequence[str], Mapping[str, str]]:
        self.given.append((list(command), instance))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or (["wrap", *command], {"WRAPPED": "1"})

    def command(self, instance: TaskFacts) -> Sequence[str]:
        self.given.append(([], instance))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or ["check", str(instance.options["port"])]


OPERATOR = """
variables: {LEVEL: 5}
operators:
  - {name: own, type: plugin, plugin: NAME, options: {level: "${{ LEVEL }}", more: [a, "${{ LEVEL + 1 }}"]}}
workflow:
  name: w
  tasks:
    - {name: t, operator: own, script: [echo hi], replicas: {count: 2}}
"""
PROBE = """
workflow:
  name: w
  tasks:
    - name: t
      script: [echo hi]
      ports: {http: 1}
      probes: {readiness: {plugin: {name: NAME, options: {port: "${{ port.http }}"}}}}
"""
ARTIFACT = """
artifacts:
  - {name: A, uri: "vault://a/b.tar.gz", fetch: true, sha256: DIGEST}
  - {name: B, uri: "vault://a/b"}
workflow: {name: w, tasks: [{name: t, script: ["cat $A"]}]}
"""


def planned(folder: Path, text: str, plugins: Installed, name: str = "own") -> Plan:
    return plan_of(folder, text.replace("NAME", name), find_plugin=plugins.find)


def refused(folder: Path, text: str, plugins: Installed, name: str = "own") -> Finding:
    (finding,) = findings_of(folder, text.replace("NAME", name), find_plugin=plugins.find)
    return finding


def test_an_operator_makes_the_command_of_each_replica(tmp_path: Path) -> None:
    plugins = Installed()
    plan = planned(tmp_path, OPERATOR, plugins)
    for task in plan.tasks:
        assert task.argv == ("wrap", "bash", "-c", "echo hi")
        assert task.env["WRAPPED"] == "1"
        assert task.operator_kind == "plugin"
    asked = {facts.name: (command, facts) for command, facts in plugins.given}
    command, facts = asked["t_1"]
    assert command == ["bash", "-c", "echo hi"]
    assert facts.options == {"level": 5, "more": ["a", 6]}
    assert (facts.task, facts.number, facts.gpus_per_node) == ("t", 1, 0)
    assert facts.env["SFLOW_TASK_OUTPUT_DIR"] == "/out/run/t_1"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ValueError("level is too low"), "ValueError: level is too low"),
        ([()], "ValueError: not enough values"),
        ((["nice", 5], {}), "its command has to be texts"),
        ((["nice"], {"A": 5}), "its command has to be texts"),
        ((["", "x"], {}), "its command has to be texts"),
    ],
)
def test_what_an_operator_gets_wrong_is_said_with_its_package(tmp_path: Path, answer: Any, said: str) -> None:
    finding = refused(tmp_path, OPERATOR, Installed(answer))
    assert finding.code == "plugin"
    assert finding.what.startswith('task "t": plug-in own of a package 1.0: ')
    assert said in finding.what
    assert finding.where is not None
    assert "operator" in finding.where
    assert finding.hint


def test_a_plug_in_that_is_not_installed_is_said_for_each_kind(tmp_path: Path) -> None:
    for text, group in ((OPERATOR, OPERATORS), (PROBE, PROBES)):
        finding = refused(tmp_path, text, Installed(), "unknown")
        assert finding.what == f'task "t": no {group} called unknown'
        assert finding.hint == "install it"


def test_a_probe_s_command_may_hold_a_port_that_is_leased_later(tmp_path: Path) -> None:
    plan = planned(tmp_path, PROBE, Installed())
    (probe,) = plan.tasks[0].probes
    (check,) = probe.all_checks
    assert isinstance(check, ExecCheck)
    assert check.argv[0] == "check"
    assert "${{" in check.argv[1]
    assert plan.tasks[0].deferred


def test_an_empty_command_of_a_probe_is_refused(tmp_path: Path) -> None:
    finding = refused(tmp_path, PROBE, Installed([""]))
    assert "its command has to be texts" in finding.what
    assert "plugin" in (finding.where or "")


def test_an_operator_needs_the_name_of_a_plug_in(tmp_path: Path) -> None:
    (finding,) = findings_of_files(tmp_path, OPERATOR.replace("plugin: NAME, ", ""))
    assert finding.what == '"plugin" is missing: operators of type plugin need it'


def test_an_artifact_is_fetched_by_a_scheme_only_where_it_says_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ARTIFACT.replace("DIGEST", "A" * 64), find_plugin=Installed().find)
    (fetch,) = plan.fetches
    assert isinstance(fetch, PluginFetch)
    assert (fetch.scheme, fetch.uri, fetch.sha256) == ("vault", "vault://a/b.tar.gz", "a" * 64)
    assert fetch.path.startswith("/ws/.sflow_cache/artifacts/vault_")
    assert fetch.path.endswith(".tar.gz")
    assert plan.artifacts == {"A": fetch.path, "B": "vault://a/b"}


def test_a_scheme_that_no_package_has_is_a_finding_at_the_uri(tmp_path: Path) -> None:
    def find(group: str, name: str) -> FoundPlugin:
        assert (group, name) == (ARTIFACT_SCHEMES, "vault")
        raise PluginError("no vault", "install one")

    (finding,) = findings_of(tmp_path, ARTIFACT.replace("DIGEST", "a" * 64), find_plugin=find)
    assert (finding.what, finding.hint) == ('artifact "A": no vault', "install one")
    assert "uri" in (finding.where or "")


@pytest.mark.parametrize("uri", ["fs:///data", "https://h/x", "hf://a/b", "docker://x"])
def test_fetch_has_no_meaning_where_we_fetch_anyway(tmp_path: Path, uri: str) -> None:
    text = f'artifacts: [{{name: A, uri: "{uri}", fetch: true}}]\nworkflow: {{name: w, tasks: [{{name: t, script: [x]}}]}}'
    found = findings_of_files(tmp_path, text)
    assert [one.code for one in found] == ["artifact-field"]


def findings_of_files(folder: Path, text: str) -> Sequence[Finding]:
    with pytest.raises(SpecError) as raised:
        plan_of(folder, text)
    return raised.value.findings


STORAGE = """
storage: [{name: s, type: plugin, uri: "URI"}]
workflow: {name: w, tasks: [{name: t, script: [x], uploads: [{target: s, from: a.txt}]}]}
"""


def test_a_storage_target_of_a_plug_in(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, STORAGE.replace("URI", "vault://x/y/"), find_plugin=Installed().find)
    assert (plan.storage[0].type, plan.storage[0].uri) == ("plugin", "vault://x/y")


def test_a_storage_target_of_a_plug_in_needs_a_uri(tmp_path: Path) -> None:
    (finding,) = findings_of(tmp_path, STORAGE.replace("URI", "vault"), find_plugin=Installed().find)
    assert "is not a URI" in finding.what
    found = findings_of_files(tmp_path, STORAGE.replace('uri: "URI"', "bucket: b"))
    assert {one.what for one in found} == {
        'storage "s" of type plugin has no uri',
        'storage "s" is of type plugin, which has no bucket',
    }

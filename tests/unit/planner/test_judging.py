"""`settings.validation`: three words with one meaning each, for every finding that is a matter of judgement."""

import ast
from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.errors import Finding, LaunchError, PlanError, SpecError
from protocol.messages.node import Gpu, GpuUser, Inventory
from sflow_ctl.plan.parts.judging import JUDGED, LENIENT
from sflow_ctl.plan.words import Policies, PolicyWord
from sflow_ctl.planner.judging.judged import judged
from sflow_ctl.runtime.files.settings_files import settings_layers
from sflow_ctl.runtime.fleet.fleet import check_gpus
from sflow_ctl.runtime.run.options import FleetOptions
from sflow_ctl.settings import Effective, policies_of
from tests.documents.blocks import ROOT
from tests.unit.planner.planning import findings_of, plan_of

PLAIN = "workflow: {name: w, tasks: [{name: a, script: [x]}]}"
WORDS: tuple[PolicyWord, ...] = ("error", "warn", "off")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("code", sorted(JUDGED.keys() - LENIENT))
def test_each_word_means_the_same_for_every_warning(tmp_path: Path, code: str, word: PolicyWord) -> None:
    other = Finding("other", "stays")
    plan = replace(
        plan_of(tmp_path, PLAIN), warnings=(Finding(code, "it is so", "w.yaml:1", "do this"), other)
    )
    for policies in (Policies(rules={code: word}), Policies(default=word, rules={"other": "warn"})):
        if word == "error":
            with pytest.raises(PlanError) as caught:
                judged(plan, policies)
            (finding,) = caught.value.findings
            assert (finding.code, finding.where) == (code, "w.yaml:1")
            assert finding.hint == "do this; settings.validation makes it an error"
        else:
            left = judged(plan, policies)
            assert [one.code for one in left.warnings] == [code, "other"][word == "off" :]
            assert left.policies == policies


HYPHEN = "variables: {a-b: 1, a: 2, b: 1}\nworkflow: {name: w, tasks: [{name: t, script: ['${{ a-b }}']}]}"


@pytest.mark.parametrize("word", WORDS)
def test_an_error_that_is_a_matter_of_judgement_may_be_set_aside(tmp_path: Path, word: PolicyWord) -> None:
    policies = Policies(rules={"hyphen-in-name": word})
    if word == "error":
        assert [one.code for one in findings_of(tmp_path, HYPHEN, policies=policies)] == ["hyphen-in-name"]
        return
    plan = judged(plan_of(tmp_path, HYPHEN, policies=policies), policies)
    assert plan.tasks[0].script.endswith("1")
    codes = [one.code for one in plan.warnings]
    assert ("hyphen-in-name" in codes) is (word == "warn")


def test_a_default_does_not_set_errors_aside(tmp_path: Path) -> None:
    codes = [one.code for one in findings_of(tmp_path, HYPHEN, policies=Policies(default="off"))]
    assert codes == ["hyphen-in-name"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("code", ["gpus-too-small", "gpus-in-use"])
def test_what_agents_find_is_judged_too(tmp_path: Path, code: str, word: PolicyWord) -> None:
    file = (
        "workflow: {name: w, tasks: [{name: a, script: [x], resources: {gpus: {count: auto, memory: 60G}}}]}"
    )
    plan = plan_of(tmp_path, file, gpu_memory_here=lambda: 80 << 30, gpus_per_node_override=1)
    memory = (40 if code == "gpus-too-small" else 80) << 30
    users = (GpuUser(pid=7, program="x", owner="me", memory_bytes=1 << 30),) if code == "gpus-in-use" else ()
    gpu = Gpu(index=0, uuid="GPU-1", memory_bytes=memory, users=users)
    found = {
        0: Inventory(host="n", cpus_online=1, cpus=1, memory_bytes=1 << 30, gpus=(gpu,), counts_gpus=True)
    }
    plan = replace(plan, policies=Policies(rules={code: word}))
    if word == "error":
        with pytest.raises(LaunchError) as caught:
            check_gpus(plan, found, FleetOptions())
        assert [one.code for one in caught.value.findings] == [code]
    else:
        told = check_gpus(plan, found, FleetOptions())
        assert len(told) == (word == "warn"), told


PORTS = """\
backends: [{name: l, type: local, nodes: 2}]
workflow:
  name: w
  tasks:
    - name: web
      script: [x]
      replicas: %s
      resources: {nodes: {count: 1}}
      probes: {readiness: {tcp_port: {port: %s}}}
    - {name: b, script: [x], depends_on: [web]}
"""


@pytest.mark.parametrize(
    ("replicas", "port", "is_told"),
    [
        ("3", "8000", True),
        ("3", '"${{ 8000 + replica.index }}"', False),
        ("{count: 3, policy: sequential}", "8000", False),
        ("1", "8000", False),
    ],
)
def test_copies_with_one_port_on_a_node_are_a_warning(
    tmp_path: Path, replicas: str, port: str, is_told: bool
) -> None:
    plan = plan_of(tmp_path, PORTS % (replicas, port))
    assert ("fixed-port" in [one.code for one in plan.warnings]) is is_told


def effective(folder: Path, site: str, user: str) -> Effective:
    (folder / "site.yaml").write_text(site)
    (folder / "sflow").mkdir(exist_ok=True)
    (folder / "sflow" / "config.yaml").write_text(user)
    environ = {"SFLOW_SITE_FILE": str(folder / "site.yaml"), "XDG_CONFIG_HOME": str(folder)}
    return settings_layers({}, environ).without_workflow()


def test_rules_of_a_site_and_a_user_are_put_together(tmp_path: Path) -> None:
    site = "validation: {default: error, rules: {shell-variable: error, idle-gpus: off}}"
    found = effective(tmp_path, site, "validation: {rules: {shell-variable: warn, fixed-port: off}}")
    assert policies_of(found.settings.validation) == Policies(
        default="error", rules={"shell-variable": "warn", "idle-gpus": "off", "fixed-port": "off"}
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{rules: {shell-varable: off}}", 'did you mean "shell-variable"?'),
        ("{rules: {unknown-key: warn}}", "it is not a warning, or always an error"),
        ("{default: on}", "validation.default is neither error, warn nor off"),
        ("{default: ignore}", "ignore"),
    ],
)
def test_what_is_wrong_with_rules_is_said(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        effective(tmp_path, f"validation: {written}", "{}")
    (finding,) = caught.value.findings
    assert said in f"{finding.what} {finding.hint}"
    assert "site.yaml:1" in (finding.where or "")


def test_every_warning_of_the_planner_may_be_judged() -> None:
    """Found as they are written: `findings.warn("CODE", ...)`, and a list of warnings that a finding is added to."""
    found = set()
    for path in (*ROOT.glob("sflow_ctl/planner/**/*.py"), *ROOT.glob("sflow_ctl/format/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            first = node.args[0] if node.args else None
            if node.func.attr == "warn" and isinstance(first, ast.Constant):
                found.add(first.value)
            is_list = ast.unparse(node.func).endswith("warnings.append") and isinstance(first, ast.Call)
            if is_list and isinstance(first, ast.Call) and isinstance(first.args[0], ast.Constant):
                found.add(first.args[0].value)
    assert len(found) > 20
    assert found <= JUDGED.keys()


def test_the_documents_list_what_may_be_judged() -> None:
    page = (ROOT / "docs/howto/findings.md").read_text()
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `")]
    listed = {code.strip(" `"): (word.strip(" `"), text.strip()) for code, word, text in rows}
    assert listed == JUDGED

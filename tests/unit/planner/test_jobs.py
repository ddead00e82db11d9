"""Tasks whose work is done elsewhere: what their watchers are given, and fields that mean nothing there."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.errors import PlanError, SpecError
from protocol.messages.jobs import CANCEL_VARIABLE, FIND_VARIABLE, JOB_VARIABLE, POLL_VARIABLE, JobSpec
from protocol.messages.rank_spec import JOB_PROGRAM
from protocol.plugins import BACKENDS, FoundPlugin, PluginError
from sflow_ctl.plan.model import PlannedTask
from tests.unit.planner.planning import findings_of, plan_of

JOBS = "backends: [{{name: jobs, type: slurm_job{more}}}]\nworkflow: {{name: w, tasks: [{{name: t, script: [x]{task}}}]}}"
EXTERNAL = (
    "workflow: {name: w, variables: {U: http://h}, "
    "tasks: [{name: t, external: {start: 's ${{ variables.U }}', poll: p, success: done"
)


def spec_of(task: PlannedTask) -> JobSpec:
    return msgspec.json.decode(task.env[JOB_VARIABLE], type=JobSpec)


def planned(tmp_path: Path, text: str, **context: Any) -> PlannedTask:
    (task,) = plan_of(tmp_path, text, **context).tasks
    return task


def test_a_slurm_job_has_the_options_of_its_backend(tmp_path: Path) -> None:
    more = (
        ", account: a, partition: p, time: 90m, nodes: 2, gpus_per_node: 4, qos: q, mem: 8G, exclude: [n1, n2]"
        ", mail: me, extra_args: ['--signal=B:USR1@60 --licenses=x:1'], every: 3s"
    )
    task = planned(tmp_path, JOBS.format(more=more, task=""))
    assert task.argv == (JOB_PROGRAM, "bash", "-c", "x")
    spec = spec_of(task)
    assert spec.options == (
        "--nodes=2", "--gpus-per-node=4", "--account=a", "--partition=p", "--time=1:30:00", "--exclude=n1,n2",
        "--qos=q", "--mem=8G", "--mail-user=me", "--mail-type=END,FAIL", "--signal=B:USR1@60", "--licenses=x:1",
    )  # fmt: skip
    assert (spec.kind, spec.name, spec.every_s) == ("slurm", "t", 3.0)
    assert (task.placement.gpus, task.ranks_per_node) == ((), (1,))
    assert task.retries.infra_count == 3


def test_nothing_is_asked_for_that_the_file_does_not_name(tmp_path: Path) -> None:
    assert spec_of(planned(tmp_path, JOBS.format(more="", task=""))).options == ("--nodes=1",)


def test_a_task_changes_fields_of_the_backend_for_itself(tmp_path: Path) -> None:
    task = (
        ", backend: {name: jobs, nodes: 3, job_name: big}, retries: {count: 1, interval: 1, infra_count: 0}"
    )
    made = planned(tmp_path, JOBS.format(more="", task=task))
    assert (spec_of(made).options, spec_of(made).name) == (("--nodes=3",), "big")
    assert made.retries.infra_count == 0


@pytest.mark.parametrize(
    ("task", "what"),
    [
        (", resources: {gpus: {count: 1}}", "where `resources` means nothing"),
        (", launcher: torchrun", "where `launcher` means nothing"),
        (", ports: {http: 1}", "where `ports` means nothing"),
        (", external: {start: a, poll: b, success: c}", "has both external and script"),
    ],
)
def test_fields_about_a_node_are_refused(tmp_path: Path, task: str, what: str) -> None:
    with pytest.raises((PlanError, SpecError)) as raised:
        plan_of(tmp_path, JOBS.format(more="", task=task))
    assert any(what in one.what for one in raised.value.findings), raised.value.findings


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (", qos: 'a b'", '"a b" is not the name of a quality of service'),
        (", every: 0", "backend.every must be at least 0.1 s"),
        (", image: x", 'unknown key "image" of a slurm_job backend'),
    ],
)
def test_wrong_values_of_the_backend_are_found(tmp_path: Path, more: str, what: str) -> None:
    with pytest.raises((PlanError, SpecError)) as raised:
        plan_of(tmp_path, JOBS.format(more=more, task=""))
    assert any(what in one.what for one in raised.value.findings), raised.value.findings


class Backend:
    """Is there; it is not asked for anything while a run is planned."""

    submit = find = poll = cancel = None


def test_a_backend_of_a_plug_in(tmp_path: Path) -> None:
    text = JOBS.replace("type: slurm_job", "type: plugin, plugin: grid").format(
        more=", options: {queue: '${{ 1 + 1 }}'}, nodes: 2", task=""
    )

    def find(group: str, name: str) -> FoundPlugin:
        assert (group, name) == (BACKENDS, "grid")
        return FoundPlugin(Backend(), "grid of a package")

    spec = spec_of(planned(tmp_path, text, find_plugin=find))
    assert (spec.kind, spec.plugin, spec.plugin_options, spec.nodes) == ("plugin", "grid", {"queue": 2}, 2)

    def find_none(_group: str, _name: str) -> FoundPlugin:
        raise PluginError('no installed package has "grid" among its backends', "install one")

    (finding,) = findings_of(tmp_path, text, find_plugin=find_none)
    assert (finding.hint, "no installed package" in finding.what) == ("install one", True)


def test_a_backend_of_a_plug_in_names_it(tmp_path: Path) -> None:
    with pytest.raises((PlanError, SpecError), match="of type plugin needs it"):
        plan_of(tmp_path, JOBS.replace("slurm_job", "plugin").format(more="", task=""))


def test_external_work_has_its_commands_in_the_environment(tmp_path: Path) -> None:
    more = ", json: state, failure: [bad, gone], cancel: c, find: f, every: 2s, lost_after: 1m}}]}"
    task = planned(tmp_path, EXTERNAL + more)
    assert task.argv == (JOB_PROGRAM, "bash", "-c", "s http://h")
    assert [task.env[name] for name in (POLL_VARIABLE, CANCEL_VARIABLE, FIND_VARIABLE)] == ["p", "c", "f"]
    spec = spec_of(task)
    assert (spec.kind, spec.json, spec.success, spec.failure) == (
        "commands",
        "state",
        ("done",),
        ("bad", "gone"),
    )
    assert (spec.every_s, spec.lost_after_s) == (2.0, 60.0)


def test_a_word_of_external_work_has_one_meaning(tmp_path: Path) -> None:
    (finding,) = findings_of(tmp_path, EXTERNAL + ", failure: [done]}}]}")
    assert "done cannot mean both success and failure" in finding.what


def test_external_work_and_a_backend_of_jobs_exclude_each_other(tmp_path: Path) -> None:
    text = "backends: [{name: jobs, type: slurm_job}]\n" + EXTERNAL + "}}]}"
    (finding,) = findings_of(tmp_path, text)
    assert "is external, and its backend" in finding.what

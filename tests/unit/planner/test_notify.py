"""`notify`: its forms, its limits, and what is wrong with it."""

from pathlib import Path

import pytest

from protocol.errors import SpecError
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.notices import PlannedNotice
from sflow_ctl.planner.show.text import plan_text
from tests.unit.planner.planning import findings_of, plan_of

SERVICE = ", kind: service, probes: {readiness: {tcp_port: {port: 80}}}"


def text(notify: str, task: str = SERVICE) -> str:
    return (
        "variables: {HOOK: http://127.0.0.1:9/x}\n"
        f"workflow: {{name: w, notify: {notify}, tasks: [{{name: a, script: [x]{task}}}, {{name: b, script: [x]}}]}}\n"
    )


def planned(tmp_path: Path, notify: str, task: str = SERVICE) -> Plan:
    return plan_of(tmp_path, text(notify, task))


def test_one_entry_needs_no_list_and_is_about_the_end(tmp_path: Path) -> None:
    plan = planned(tmp_path, "{command: echo done}")
    assert plan.notices == (PlannedNotice(on=("end",), command=("bash", "-c", "echo done"), timeout_s=10.0),)


def test_expressions_words_and_lists(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "[{webhook: '${{ variables.HOOK }}', when: [ready, failure, ready], timeout: 500ms},"
        " {command: [mail, me], when: failure}]",
    )
    assert plan.notices == (
        PlannedNotice(on=("ready", "failure"), webhook="http://127.0.0.1:9/x", timeout_s=0.5),
        PlannedNotice(on=("failure",), command=("mail", "me"), timeout_s=10.0),
    )


def test_slurms_words_events_of_tasks_and_mail(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "[{mail: [me@x.org, root], when: [afterok, afterany]}, {command: x, when: task_failed, task: 'a*'},"
        " {command: y, when: afternotok}]",
    )
    mail, task, failed = plan.notices
    assert mail.on == ("run_succeeded", "end")
    assert mail.command[-1].endswith('| mail -s "$SFLOW_RUN_ID $SFLOW_NOTICE" me@x.org root')
    assert (task.on, task.tasks) == (("task_failed",), ("a*",))
    assert failed.on == ("run_failed",)


@pytest.mark.parametrize(
    ("notify", "what"),
    [
        ("[{when: end}]", "workflow.notify[0] needs a command or a webhook"),
        ("[{command: x, webhook: http://h/}]", "workflow.notify[0] needs a command or a webhook"),
        (
            "[{command: x, mail: me}]",
            "workflow.notify[0] needs a command or a webhook or a mail, one of them",
        ),
        ("[{mail: [me@x, '$(rm)']}]", '"$(rm)" is not an address'),
        ("[{command: x, task: a}]", "task is given, and no event of tasks"),
        ("[{command: ' '}]", "the command is empty"),
        ("[{webhook: ftp://h/secret}]", "webhook is not an address that begins with http:// or https://"),
        ("[{webhook: 'http://'}]", "webhook is not an address"),
        ("[{command: x, timeout: 2h}]", "timeout must be more than 0 and at most 60 seconds, is 7200"),
        ("[{command: x, timeout: 0}]", "timeout must be more than 0"),
        ("[{command: x, when: started}]", "started"),
    ],
)
def test_what_is_wrong_is_said_without_the_address(tmp_path: Path, notify: str, what: str) -> None:
    try:
        found = findings_of(tmp_path, text(notify))
    except SpecError as error:
        found = list(error.findings)
    assert what in found[0].what
    assert "secret" not in str(found[0])
    assert found[0].where is not None
    assert "w.yaml:" in found[0].where


def test_a_run_without_services_is_never_ready(tmp_path: Path) -> None:
    (warning,) = planned(tmp_path, "{command: x, when: ready}", "").warnings
    assert warning.code == "never-ready"


def test_silence_is_watched_on_the_nodes_of_the_tasks_that_are_meant(tmp_path: Path) -> None:
    entry = "{command: x, when: [progress_stalled, end], after: 10m, task: 'a*'}"
    plan = planned(tmp_path, entry, ", replicas: 2, hang: {no_output_for: 1h}")
    assert plan.notices[0].stalled_s == 600.0
    assert [(task.name, task.hang and (task.hang.stalled_s, task.hang.no_output_s)) for task in plan.tasks] == [
        ("a_0", (600.0, 3600.0)), ("a_1", (600.0, 3600.0)), ("b", None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{command: x, when: progress_stalled}", "`after` and the event progress_stalled go together"),
        ("{command: x, after: 5m}", "`after` and the event progress_stalled go together"),
        ("{command: x, when: progress_stalled, after: 0}", "after must be more than 0 seconds"),
        (
            "[{command: x, when: progress_stalled, after: 1}, {command: y, when: progress_stalled, after: 2, task: b}]",
            'notify gives task "b" several times of silence: 1 s, 2 s',
        ),
    ],
)
def test_what_is_wrong_with_silence(tmp_path: Path, entry: str, said: str) -> None:
    (finding,) = findings_of(tmp_path, text(entry))
    assert said in finding.what


def test_only_lines_about_progress_keep_a_task_from_being_stalled(tmp_path: Path) -> None:
    entry = "{command: x, when: progress_stalled, after: 5m}"
    plan = planned(tmp_path, entry, ", progress: {log_regex: 'step (\\d+)'}")
    assert [task.hang and task.hang.progress_lines for task in plan.tasks] == ["step (\\d+)", ""]
    assert "a notice is sent after no line about its progress for 300 s" in plan_text(plan)

"""The parts of a probe that reach the agents, and how it is shown."""

from pathlib import Path

from protocol.messages.checks import ExecCheck, HttpCheck, LogCheck, LogPattern, Probe, TcpCheck
from sflow_ctl.planner.show.text import plan_text
from tests.conformance.test_conformance import HERE, planned


def test_all_kinds_reach_the_agents() -> None:
    plan = planned(HERE / "accepted" / "9.1-every-kind-of-probe.yaml")
    tasks = {task.name: task for task in plan.tasks}
    assert tasks["http"].probes == (
        Probe(
            kind="readiness",
            checks=(
                HttpCheck(
                    method="GET",
                    url="https://127.0.0.1:8000/health?full=1",
                    headers=(("Authorization", "Bearer 8000"),),
                    status=(200, 204),
                    header=(("Content-Type", "json"),),
                    body_contains="8000",
                    json="len(instances) >= 6",
                    verify=False,
                    ca_file="/etc/ca.pem",
                    owner="run",
                ),
            ),
        ),
        Probe(
            kind="failure",
            checks=(HttpCheck(method="POST", url="http://n0/", body="", owner="any"),),
            timeout_s=30.0,
            threshold=3,
        ),
    )
    assert tasks["program"].probes == (
        Probe(kind="readiness", checks=(ExecCheck(argv=("curl", "-f", "http://127.0.0.1:8000")),)),
        Probe(
            kind="failure", checks=(ExecCheck(argv=("bash", "-c", "grep -q 8000 /tmp/state")),), threshold=3
        ),
    )
    assert tasks["several"].probes == (
        Probe(
            kind="readiness",
            checks=(TcpCheck(port=8000), LogCheck(pattern=LogPattern(pattern="up"), task="http")),
            on_node="each",
        ),
        Probe(
            kind="failure",
            checks=(ExecCheck(argv=("false",)), TcpCheck(port=9, owner="run")),
            needs_all=False,
            threshold=3,
        ),
    )
    assert [tasks[name].deadline_s for name in tasks] == [90.0, 1200.0, 1200.0]


def test_probes_are_shown_in_words() -> None:
    text = plan_text(planned(Path(HERE / "accepted" / "9.1-every-kind-of-probe.yaml")))
    for line in (
        "readiness: GET https://127.0.0.1:8000/health?full=1\n",
        "deadline:  ready within 90 s, each check within 60 s\n",
        "failure:   command 'bash -c grep -q 8000 /tmp/state'\n",
        "readiness: port 8000 and log 'up' on each node\n",
        "failure:   command 'false' or port 9\n",
    ):
        assert line in text

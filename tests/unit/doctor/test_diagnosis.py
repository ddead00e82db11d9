"""Verdicts for each fault: text, severity, nodes, and the exit status."""

from typing import Any

import msgspec
import pytest

from protocol.messages.inspection import Engine, GpuHealth, Leftover, LeftSpool, Limit, Quota
from protocol.messages.node import Gpu, GpuUser
from sflow_ctl.doctor.diagnosis import Diagnosis, diagnose, text
from sflow_ctl.doctor.facts import Clock, Examination
from sflow_ctl.doctor.verdicts import Severity, Verdict
from tests.unit.doctor.healthy import GIB, directory, fleet

change = msgspec.structs.replace


def bad(diagnosis: Diagnosis) -> list[tuple[str, Verdict]]:
    """(topic, verdict) of all that is not well."""
    return [
        (topic.name, verdict)
        for topic in diagnosis.topics
        for verdict in topic.verdicts
        if verdict.severity is not Severity.OK
    ]


def with_node(examination: Examination, **changes: Any) -> Examination:
    """The second node is different."""
    first, second, *rest = examination.nodes
    return change(examination, nodes=(first, change(second, **changes), *rest))


def with_report(examination: Examination, **changes: Any) -> Examination:
    """The second node reports something else."""
    report = examination.nodes[1].report
    assert report is not None
    return with_node(examination, report=change(report, **changes))


def with_inventory(examination: Examination, **changes: Any) -> Examination:
    """The second node has something else."""
    return with_node(examination, inventory=change(examination.nodes[1].inventory, **changes))


def with_directory(role: str, **changes: Any) -> Examination:
    """One of its directories is different."""
    examination = fleet()
    report = examination.nodes[1].report
    assert report is not None
    places = tuple(change(one, **changes) if one.role == role else one for one in report.directories)
    return with_report(examination, directories=places)


HEALTHY = fleet()
H200 = Gpu(index=0, uuid="GPU-0", name="H200", memory_bytes=140 * GIB)
BUSY = change(H200, used_bytes=70 * GIB, users=(GpuUser(pid=77, owner="ann", program="python"),))
OTHER = change(H200, index=1, uuid="GPU-1")
FAULTS = [
    ("cpus", "warn", with_inventory(HEALTHY, cpus=1), "tasks may run on 1 of the 64 CPUs that the job owns"),
    (
        "cpus",
        "warn",
        with_report(HEALTHY, cpu_quota=1.5),
        "a cgroup allows the time of 1.5 CPUs, programs see 64",
    ),
    (
        "memory",
        "warn",
        with_report(HEALTHY, memory_available_bytes=9 * GIB),
        "9 GiB of 1000 GiB memory is available",
    ),
    ("gpus", "fail", with_inventory(HEALTHY, gpus=(H200,)), "has 1 GPU, Slurm granted 2"),
    (
        "gpus",
        "warn",
        with_inventory(HEALTHY, gpus=(BUSY, OTHER)),
        "GPU 0: 70 GiB of 140 GiB in use by 77 python (ann)",
    ),
    (
        "gpus",
        "warn",
        with_inventory(HEALTHY, gpus=(change(BUSY, users=()), OTHER)),
        "GPU 0: 70 GiB of 140 GiB in use by unknown processes",
    ),
    (
        "gpus",
        "warn",
        with_inventory(HEALTHY, gpu_problems=("GPU 3 does not answer",)),
        "GPU 3 does not answer",
    ),
    (
        "gpus",
        "fail",
        with_report(HEALTHY, gpu_health=(GpuHealth(index=1, has_remap_failed=True),)),
        "GPU 1: its memory has no spare rows left",
    ),
    (
        "gpus",
        "warn",
        with_report(HEALTHY, gpu_health=(GpuHealth(index=1, is_remap_pending=True),)),
        "GPU 1: bad memory rows are replaced at its next reset only",
    ),
    (
        "gpus",
        "warn",
        with_report(HEALTHY, gpu_health=(GpuHealth(index=0, uncorrected_errors=3),)),
        "GPU 0: 3 uncorrected memory errors since its driver was loaded",
    ),
    (
        "limits",
        "warn",
        with_report(HEALTHY, limits=(Limit(name="nofile", soft=256, hard=256),)),
        "tasks may open 256 files",
    ),
    (
        "limits",
        "warn",
        with_report(HEALTHY, limits=(Limit(name="nproc", soft=100, hard=None),)),
        "this user may have 100 processes and threads",
    ),
    (
        "limits",
        "warn",
        with_report(HEALTHY, limits=(Limit(name="memlock", soft=65536, hard=65536),), has_infiniband=True),
        "programs may lock 64 KiB of memory: too little for RDMA over InfiniBand",
    ),
    (
        "limits",
        "warn",
        with_report(HEALTHY, limits=(Limit(name="fsize", soft=1 << 20, hard=None),)),
        "files of programs may not grow beyond 1 MiB",
    ),
    (
        "directories",
        "warn",
        with_node(HEALTHY, shares_run_directory=False),
        "/o is not this host's: logs are sent, files that tasks write there stay on the node",
    ),
    (
        "directories",
        "fail",
        with_directory("output directory", problem="disk quota exceeded"),
        "output directory /o: disk quota exceeded",
    ),
    (
        "directories",
        "fail",
        with_directory("temporary files", problem="read-only file system"),
        "temporary files /tmp: read-only file system",
    ),
    (
        "directories",
        "warn",
        with_directory("shared memory", problem="no such file or directory"),
        "shared memory /dev/shm: no such file or directory",
    ),
    (
        "directories",
        "warn",
        with_directory("shared memory", total_bytes=64 << 20),
        "shared memory /dev/shm has 64 MiB: too little for NCCL and data loaders",
    ),
    (
        "directories",
        "warn",
        with_directory("shared memory", free_bytes=GIB),
        "shared memory /dev/shm: 1 GiB of 1000 GiB free",
    ),
    (
        "directories",
        "warn",
        with_directory("output directory", free_bytes=5),
        "output directory /o: 5 B free",
    ),
    (
        "directories",
        "warn",
        with_directory("output directory", free_files=5),
        "output directory /o: only 5 more files fit",
    ),
    (
        "directories",
        "warn",
        with_directory("output directory", write_s=3.0),
        "output directory /o: it took 3.0 s to write 1 MiB",
    ),
    (
        "directories",
        "warn",
        with_directory("output directory", quota=Quota(kib=96, kib_limit=100, files=1, files_limit=0)),
        "output directory /o: your quota is nearly used up (96 KiB of 100 KiB)",
    ),
    (
        "directories",
        "fail",
        with_directory("output directory", quota=Quota(kib=1, kib_limit=0, files=9, files_limit=9)),
        "output directory /o: your quota is used up (9 of 9 files)",
    ),
    (
        "versions",
        "warn",
        with_report(HEALTHY, versions=(("driver", "580.1"), ("python", "3.11.2"), ("sflow-ctl", "0.1.0"))),
        "python 3.11.2, on head 3.12.1 (/opt/sflow)",
    ),
    (
        "containers",
        "warn",
        with_report(HEALTHY, engines=(Engine(name="apptainer", path="/a", problem="no user namespaces"),)),
        "apptainer cannot be used: no user namespaces",
    ),
    (
        "containers",
        "warn",
        with_report(HEALTHY, engines=()),
        "apptainer is not installed, but other nodes have it",
    ),
    (
        "leftovers",
        "warn",
        with_report(HEALTHY, leftovers=(Leftover(run="r-1-0123abcd", pids=(7, 8), has_agent=False),)),
        "2 processes of run r-1 are left without an agent",
    ),
    (
        "leftovers",
        "warn",
        with_report(HEALTHY, spools=(LeftSpool(path="/tmp/s", run="r-1-0123abcd", size_bytes=7),)),
        "/tmp/s has logs of run r-1 that did not reach its run directory",
    ),
    (
        "clocks",
        "warn",
        with_node(HEALTHY, clock=Clock(ahead_s=-90.0, uncertainty_s=0.001)),
        "its clock is 90.0 s behind head's",
    ),
    (
        "agents",
        "warn",
        with_report(HEALTHY, unanswered=(("output directory /o", "no answer within 12 s"),)),
        "output directory /o: no answer within 12 s",
    ),
]


@pytest.mark.parametrize(
    ("topic", "severity", "examination", "said"), FAULTS, ids=lambda value: str(value)[:60]
)
def test_a_fault_is_reported_once_with_its_node_and_a_fix(
    topic: str, severity: str, examination: Examination, said: str
) -> None:
    diagnosis = diagnose(examination)
    (found,) = bad(diagnosis)
    assert (found[0], found[1].severity.value, found[1].nodes, found[1].text) == (
        topic,
        severity,
        ("n1",),
        said,
    )
    assert found[1].fix
    assert diagnosis.exit_status == (1 if severity == "fail" else 0)


def test_a_healthy_fleet_is_one_line_for_each_topic() -> None:
    diagnosis = diagnose(HEALTHY)
    assert (bad(diagnosis), diagnosis.exit_status) == ([], 0)
    head, empty, *lines, _, last = text(diagnosis, shows_all=False, colours=False).splitlines()
    assert (head, empty, last) == ("job 7, 4 nodes: n0, n1, n2, n3", "", "No problems found.")
    assert [line.split()[:2] for line in lines] == [["ok", topic.name] for topic in diagnosis.topics]
    assert "24 of 24 connections between 4 nodes" in lines[1]
    assert len(text(diagnosis, shows_all=True, colours=False).splitlines()) > 40


@pytest.mark.parametrize(
    "examination",
    [
        with_node(HEALTHY, clock=Clock(ahead_s=5.0, uncertainty_s=4.5)),
        with_report(HEALTHY, leftovers=(Leftover(run="r-1-0123abcd", pids=(7,), has_agent=True),)),
        with_report(
            HEALTHY,
            engines=(
                Engine(name="apptainer", path="/a", version="1.3"),
                Engine(name="apptainer", path="/b", problem="of another installation"),
            ),
        ),
        with_report(HEALTHY, spools=(LeftSpool(path="/tmp/s", run="r-1-0123abcd", size_bytes=0),)),
        with_report(HEALTHY, limits=(Limit(name="memlock", soft=65536, hard=65536),)),
        with_inventory(HEALTHY, cpus=128, cpus_online=128),
        with_inventory(HEALTHY, gpus=(change(H200, used_bytes=GIB // 2), OTHER)),
        with_node(HEALTHY, clock=None),
    ],
)
def test_harmless_facts_are_not_findings(examination: Examination) -> None:
    assert bad(diagnose(examination)) == []


def test_fewer_gpus_than_asked_for_name_every_node_once() -> None:
    diagnosis = diagnose(change(fleet(9), gpus_expected=8))
    ((topic, verdict),) = bad(diagnosis)
    assert (topic, verdict.text, len(verdict.nodes)) == ("gpus", "has 2 GPUs, --gpus-per-node says 8", 9)
    assert "--gres=gpu:N" in verdict.fix
    assert "all 9 nodes: has 2 GPUs" in text(diagnosis, shows_all=False, colours=False)


def test_an_agent_that_does_not_report_is_named_as_an_infrastructure_failure() -> None:
    diagnosis = diagnose(change(HEALTHY, missing=(("n7", "no message within 60 s"),)))
    ((_, verdict),) = bad(diagnosis)
    assert (verdict.nodes, verdict.text) == (("n7",), "its agent has not connected: no message within 60 s")
    assert diagnosis.exit_status == 3
    assert "4/5 agents connected" in diagnosis.topics[0].summary


@pytest.mark.parametrize("changes", [{"report": None}, {"lost": "silent for 30 s", "report": None}])
def test_a_node_that_stops_answering_fails_only_in_its_own_topic(
    changes: dict[str, Any],
) -> None:
    diagnosis = diagnose(with_node(HEALTHY, **changes))
    ((topic, verdict),) = bad(diagnosis)
    assert (topic, verdict.nodes, diagnosis.exit_status) == ("agents", ("n1",), 3)


def test_different_drivers_are_reported_for_each_node() -> None:
    versions = (("driver", "535.2"), ("python", "3.12.1"), ("sflow-ctl", "0.1.0"))
    found = bad(diagnose(with_report(HEALTHY, versions=versions)))
    assert [(verdict.nodes, verdict.text) for _, verdict in found] == [
        (("n0", "n2", "n3"), "NVIDIA driver 580.1"),
        (("n1",), "NVIDIA driver 535.2"),
    ]


@pytest.mark.parametrize(
    ("changes", "severity", "said"),
    [
        ({"left_s": 100.0}, "warn", "the job ends in 100.0 s"),
        ({"version": "20.02.7"}, "fail", "Slurm 20.02.7 has no srun --overlap"),
    ],
)
def test_slurms_own_faults(changes: dict[str, Any], severity: str, said: str) -> None:
    assert HEALTHY.slurm is not None
    diagnosis = diagnose(change(HEALTHY, slurm=change(HEALTHY.slurm, **changes)))
    ((_, verdict),) = bad(diagnosis)
    assert (verdict.severity.value, verdict.nodes, verdict.text) == (severity, (), said)


def test_a_directory_that_only_the_controller_has_is_not_missed_twice() -> None:
    places = (directory("output directory", "/o", problem="no such file or directory"),)
    examination = with_node(with_report(HEALTHY, directories=places), shares_run_directory=False)
    ((_, verdict),) = bad(diagnose(examination))
    assert verdict.text.startswith("/o is not this host's")


def test_everything_can_be_read_by_a_program() -> None:
    loaded = msgspec.json.decode(msgspec.json.encode(diagnose(HEALTHY)))
    assert loaded["exit_status"] == 0
    assert [node["name"] for node in loaded["facts"]["nodes"]] == ["n0", "n1", "n2", "n3"]
    assert {verdict["severity"] for topic in loaded["topics"] for verdict in topic["verdicts"]} == {"ok"}

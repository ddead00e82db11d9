"""The cases of sflow 0.3.1, run on local agents where this machine can. What they plan is in `tests/conformance`.

Those that are refused, or need a cluster, are given to the command line.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from tests.integration.agent.test_logs_and_probes import free_port
from tests.support import sflow_ctl

CASES = Path(__file__).parents[1] / "conformance" / "sflow_0_3"


class Ran:
    """One case that has been run, in a directory of its own."""

    def __init__(
        self,
        folder: Path,
        *names: str,
        ports: tuple[int, ...] = (),
        env: Mapping[str, str] = MappingProxyType({}),
        without: tuple[str, ...] = (),
    ) -> None:
        """`without` are beginnings of variables that are left out of the environment."""
        files = []
        for name in names:
            text = next(CASES.glob(f"{name}*.yaml")).read_text()
            for port in ports:
                text = text.replace(str(port), str(free_port()))
            file = folder / f"{name}.yaml"
            file.write_text(text)
            files.append(file.name)
        emptied = {name: "" for name in os.environ if name.startswith(without)} if without else {}
        begin = time.monotonic()
        self.done = sflow_ctl(
            "run", *files, "--run-id", "r", "--simulate-gpus", cwd=folder, env={**emptied, **env}
        )
        self.took_s = time.monotonic() - begin
        self.directory = folder / "sflow_output" / "r"
        summary: Any = msgspec.json.decode((self.directory / ".sflow" / "summary.json").read_bytes())
        self.states = {task["name"]: task["state"] for task in summary["tasks"]}

    def log(self, task: str) -> list[str]:
        """Return the lines of a task's log."""
        return (self.directory / task / f"{task}.log").read_text().splitlines()


def test_01_required_by(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "01")
    assert ran.done.returncode == 0, ran.done.stdout
    assert ran.states == {"bench": "completed", "load": "completed"}


def test_02_two_files(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "02-merge-a", "02-merge-b")
    assert ran.log("main") == ["from b 2"]
    assert ran.states == {"prep": "completed", "main": "completed", "extra": "completed"}


def test_03_lines_with_a_colon(tmp_path: Path) -> None:
    assert Ran(tmp_path, "03").log("t") == ["rate: 5", "on: yes", "mode: 010"]


def test_04_fail_fast(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "04")
    assert ran.states == {"lax": "completed", "py": "completed", "strict": "failed"}
    assert ran.done.returncode == 1
    assert ran.log("strict") == []


def test_05_values_of_variables(tmp_path: Path) -> None:
    assert Ran(tmp_path, "05").log("t") == [
        "domain=[1, 4, 16]",
        "max=16 model=llama",
        "typed=32 in-variable=8 untyped=8",
    ]


def test_06_swept_values(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "06")
    assert ran.log("t_1")[0] == "own=1 twice=2 shell=1"
    assert ran.log("t_4")[1].startswith("mixed=4 on ")


def test_07_global_variables_that_come_late(tmp_path: Path) -> None:
    (line,) = Ran(tmp_path, "07").log("t")
    found = dict(part.split("=") for part in line.split())
    assert found["url"] == f"http://{found['head']}:80"
    assert found["conf"].endswith("/conf.txt")
    assert Path(found["conf"]).read_text() == "x"


def test_08_gpu_numbers(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "08")
    assert ran.done.returncode == 0, ran.done.stdout
    assert set(ran.states.values()) == {"completed"}


def test_09_gpus_are_given_again(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "09")
    assert ran.log("train") == ran.log("eval") == ["0,1,2,3"]
    assert ran.log("report") == ["0"]


def test_10_gpus_are_shared_after_ready(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "10")
    assert ran.done.returncode == 0, ran.done.stdout
    assert ran.log("serve") == ["got 0,1"]
    assert ran.took_s < 8, "serve waited for the end of init"


@pytest.mark.parametrize(
    ("case", "phrases"),
    [
        ("11", ["multiple of the node count", "use 4"]),
        ("27", ["ntasks_per_nod", "operator override key(s) not valid"]),
        ("33", ["a depends on c", "b depends on a", "c depends on b", "waiting behind it: d"]),
    ],
)
def test_11_27_33_are_refused_before_anything_starts(case: str, phrases: list[str], tmp_path: Path) -> None:
    file = next(CASES.glob(f"{case}*.yaml"))
    for command in ("plan", "run"):
        done = sflow_ctl(command, file, cwd=tmp_path)
        assert done.returncode == 2
        assert [phrase for phrase in phrases if phrase not in done.stderr] == [], done.stderr
    assert not (tmp_path / "sflow_output").exists()


@pytest.mark.parametrize("case", ["12", "13"])
def test_12_13_nodes_that_are_claimed_or_picked(case: str, tmp_path: Path) -> None:
    ran = Ran(tmp_path, case)
    assert ran.done.returncode == 0, ran.done.stdout
    assert set(ran.states.values()) == {"completed"}


def test_14_places_in_the_order_of_dependencies(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "14")
    assert ran.log("client") == ["2,3"]
    assert ran.log("server") == ["up 0,1"]


def test_15_a_pool_without_gpus(tmp_path: Path) -> None:
    assert Ran(tmp_path, "15").log("t") == ["none"]


def test_16_the_deadline_counts_for_each_attempt(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "16")
    assert ran.states["server"] == "timeout"
    assert ran.done.returncode == 1
    assert "readiness probe timed out" in ran.done.stdout
    assert ran.states["client"] in ("skipped", "cancelled")


def test_17_lists_of_probes(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "17")
    assert ran.log("client") == ["client"]
    assert ran.states["bad"] == "failed"
    assert ran.done.returncode == 1
    assert ran.took_s < 18, "the second failure probe did not count"


@pytest.mark.parametrize(("case", "status"), [("18", 1), ("19", 0)])
def test_18_19_a_service_that_ends_before_it_is_ready(case: str, status: int, tmp_path: Path) -> None:
    ran = Ran(tmp_path, case)
    assert ran.done.returncode == status, ran.done.stdout
    assert (ran.states["server"] == "completed") == (status == 0)


def test_20_one_url_for_replicas(tmp_path: Path) -> None:
    assert Ran(tmp_path, "20", ports=(18431,)).log("done") == ["done"]


def test_21_ports_as_a_list(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "21", ports=(18000,))
    host, port, url = ran.log("client")[0].split()
    assert url == f"http://{host}:{port}"
    assert ran.done.returncode == 0, ran.done.stdout


def test_22_results_by_patterns(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "22")
    assert ran.states == {"quick": "completed", "full": "completed"}
    quick, full = (
        json.loads((ran.directory / name / "result.json").read_bytes()) for name in ("quick", "full")
    )
    assert quick["values"] == {"ttft": 42.5, "tps": 123}
    assert full["values"] == {"ttft": [40.0, 42.5], "n": 2, "best": 40.0, "ok": True}
    assert (full["ok"], len(full["errors"])) == (False, 1)
    assert "did not match any line" in full["errors"][0]
    whole = json.loads((ran.directory / "results.json").read_bytes())
    assert {name: one["values"] for name, one in whole["tasks"].items()} == {
        "quick": quick["values"],
        "full": full["values"],
    }


def test_23_results_from_files(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "23")
    assert set(ran.states.values()) == {"completed"}
    maker, none = (
        json.loads((ran.directory / name / "result.json").read_bytes()) for name in ("maker", "none")
    )
    assert (maker["schema_version"], maker["values"]) == ("sflow.result.v1", {"rate": 7})
    assert maker["source"] == {"type": "file", "path": "my.json"}
    assert none["ok"] is False
    log = ran.log("user")
    assert [line.partition(":")[0].rsplit("/", 1)[1] for line in log] == ["result.json", "results.json"]
    assert all('"rate": 7' in line for line in log)


def test_24_uploads_that_cannot_be_made_fail_nothing(tmp_path: Path) -> None:
    """Those to a bucket are in `tests/integration/uploads`."""
    ran = Ran(tmp_path, "24", env={"AWS_EC2_METADATA_DISABLED": "true"}, without=("AWS_",))
    assert ran.done.returncode == 0, ran.done.stdout
    assert set(ran.states.values()) == {"completed"}
    for subject in ("t", "r_0", "r_1", "upload_all"):
        assert f"uploads of {subject}: " in ran.done.stdout + ran.done.stderr


def test_25_monitors(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "25")
    assert ran.done.returncode == 0, ran.done.stdout
    folder = ran.directory / "sflow_monitor"
    assert (ran.directory / "sflow_monitor.log").is_file()
    assert list((folder / "raw").glob("*_monitor_node_0_*.log"))
    for report in ("lifecycle/workflow", "lifecycle/idle", "windowed/work"):
        for name in ("timeline.csv", "summary.csv", "timeline.svg"):
            assert (folder / report / name).is_file(), (report, name)
    window = json.loads((folder / "windowed/work/window.json").read_bytes())
    assert window["status"] == "matched"
    assert window["duration_seconds"] >= 2.9  # a mark is seen up to 20 ms late


def test_26_environment(tmp_path: Path) -> None:
    (line,) = Ran(tmp_path, "26").log("t")
    found = dict(part.split("=") for part in line.split())
    assert found["RESULT"].endswith("/t/result.json")
    assert found["INDEX"].endswith("/results.json")
    assert (found["CUDA"], found["NVIDIA"], found["IDX"]) == ("0,1", "0,1", "0")


def test_30_backends_of_a_cluster_are_shown(tmp_path: Path) -> None:
    slurm = sflow_ctl("plan", next(CASES.glob("30*.yaml")), "--json", cwd=tmp_path)
    assert slurm.returncode == 0, slurm.stderr
    big, small = json.loads(slurm.stdout)["tasks"]
    assert (len(big["nodes"]), big["cuda_visible_devices"]) == (2, "0,1,2,3")
    assert small["cuda_visible_devices"] is None


def test_29_kubernetes_is_one_finding_for_each_backend(tmp_path: Path) -> None:
    text = next(CASES.glob("29*.yaml")).read_text()
    more = "  k2: {type: kubernetes, nodes: 1, pod: {any: thing}}\n  here: {type: local, default: true}\noperators:\n"
    tasks = text + (
        '    - {name: u, operator: mpi, script: ["true"], backend: k2, depends_on: [t]}\n'
        '    - {name: own, script: ["echo own"], depends_on: [u]}\n'
    )
    tasks = tasks.replace("operators:\n", more, 1).replace("operator: op,", "operator: op, backend: k,")
    file = tmp_path / "w.yaml"
    file.write_text(tasks)
    for command in ("plan", "run"):
        done = sflow_ctl(command, file, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("error[") == done.stderr.count("error[backend-unsupported]") == 2, (
            done.stderr
        )
        for name in ("k", "k2"):
            assert f'backend "{name}" is of type kubernetes' in done.stderr
        assert "w.yaml:" in done.stderr
        assert "hint:" in done.stderr
    assert sflow_ctl("compose", file, cwd=tmp_path).returncode == 0
    one = sflow_ctl("plan", file, "--ignore-backend", "k", cwd=tmp_path)
    assert one.returncode == 2
    assert one.stderr.count("error[") == 1
    rest = sflow_ctl("plan", file, "--ignore-backend", "k", "--ignore-backend", "k2", cwd=tmp_path)
    assert rest.returncode == 0, rest.stderr
    assert "own" in rest.stdout
    option = sflow_ctl("run", file, "--kube-context", "x", cwd=tmp_path)
    assert option.returncode == 2
    assert option.stderr.startswith("error[kubernetes-option]: --kube-context: sflow-ctl does not support")
    assert "left out with their backends: t, u" in rest.stdout + rest.stderr


def test_28_docker_pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a client that runs the script here: its image is not, and its hosts are not reached."""
    programs = tmp_path / "programs"
    programs.mkdir()
    calls = tmp_path / "calls"
    client = f"""#!/bin/bash
printf '%s\\n' "$*" >> {calls}
[[ " $* " != *" run "* ]] || echo "CUDA=$CUDA_VISIBLE_DEVICES NVIDIA=${{NVIDIA_VISIBLE_DEVICES-none}}"
"""
    (programs / "docker").write_text(client)
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    ran = Ran(tmp_path, "28")
    assert ran.states == {"t": "completed", "two": "completed"}, ran.done.stdout
    assert ran.log("t") == ["CUDA=0,1 NVIDIA=none"]
    started = [line for line in calls.read_text().splitlines() if " --name " in line]
    assert sorted(line.partition(" --label")[0].partition(" --name sflow-r-")[0] for line in started) == [
        "--context b run",
        "--host ssh://a run",
        "run",
    ]
    (here,) = (line for line in started if line.startswith("run"))
    assert "ubuntu:22.04 bash -c " in here
    assert f"-v {tmp_path}:{tmp_path}:rw" in here
    assert all("-v " not in line for line in started if line != here)
    removed = [line for line in calls.read_text().splitlines() if " rm -f " in f" {line}"]
    assert sorted(line.partition("rm -f")[0] for line in removed) == ["", "--context b ", "--host ssh://a "]


def test_31_the_log_keeps_all_attempts(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "31")
    assert ran.done.returncode == 0, ran.done.stdout
    logs = sorted((ran.directory / "t").glob("t*.log"))
    texts = "".join(log.read_text() for log in logs)
    assert "attempt 0" in texts
    assert "attempt 1" in texts


def test_32_the_first_process_ends_a_task(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "32")
    assert ran.log("b") == ["b"]
    assert ran.done.returncode == 0
    assert "a has ended with its first process; stopped then: " in ran.done.stdout + ran.done.stderr

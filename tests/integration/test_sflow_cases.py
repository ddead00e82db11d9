"""The cases of sflow 0.3.1 that can run on this machine, run on local agents. What they plan is in `tests/conformance`."""

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.agent.test_logs_and_probes import free_port
from tests.support import sflow_ctl

CASES = Path(__file__).parents[1] / "conformance" / "sflow_0_3"


class Ran:
    """One case that has been run, in a directory of its own."""

    def __init__(self, folder: Path, *names: str, ports: tuple[int, ...] = ()) -> None:
        files = []
        for name in names:
            text = next(CASES.glob(f"{name}*.yaml")).read_text()
            for port in ports:
                text = text.replace(str(port), str(free_port()))
            file = folder / f"{name}.yaml"
            file.write_text(text)
            files.append(file.name)
        begin = time.monotonic()
        self.done = sflow_ctl("run", *files, "--run-id", "r", "--simulate-gpus", cwd=folder)
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


def test_06_swept_values(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "06")
    assert ran.log("t_1")[0] == "own=1 twice=2 shell=1"
    assert ran.log("t_4")[1].startswith("mixed=4 on ")


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


def test_26_environment(tmp_path: Path) -> None:
    (line,) = Ran(tmp_path, "26").log("t")
    found = dict(part.split("=") for part in line.split())
    assert found["RESULT"].endswith("/t/result.json")
    assert found["INDEX"].endswith("/results.json")
    assert (found["CUDA"], found["NVIDIA"], found["IDX"]) == ("0,1", "0,1", "0")


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

"""Containers by a stand-in for an engine with a daemon: the agent's commands, and its reports of their failures."""

import os
import signal
from pathlib import Path

import msgspec
import pytest

from protocol.messages.facts import LaunchFailed, RankCleared
from protocol.messages.rank_spec import Container, RankSpec
from tests.integration.agent.fake_controller import FakeController, spec

ENGINE = r"""#!/bin/bash
# A container exists while its file does, whoever started it.
state=$(dirname "$0")/state
mkdir -p $state
all="$*"; echo "${all//$'\n'/ }" >> $state/../calls
case $1 in
    run) touch $state/$3; echo up; while [ -e $state/$3 ]; do sleep 0.02; done; exit 9 ;;
    kill) ;;
    rm) [ -e $state/../broken ] || rm -f $state/$4 ;;
    ps) name=${4#name=^}; ls $state | grep -x "${name%$}"; true ;;
esac
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Return the directory of an engine called docker, which records its calls."""
    directory = tmp_path / "engine"
    directory.mkdir()
    program = directory / "docker"
    program.write_text(ENGINE)
    program.chmod(0o755)
    return directory


def boxed(task: str, directory: Path, attempt: int = 1, **fields: object) -> RankSpec:
    env = {"PATH": f"{directory}:/usr/bin:/bin", "K": "1"}
    container = Container(engine="docker", image="img", **fields)  # type: ignore[arg-type]
    plain = spec(task, "bash", "-lc", "x", env=env, attempt=attempt)
    return msgspec.structs.replace(plain, container=container)


def calls(directory: Path) -> list[str]:
    return (directory / "calls").read_text().splitlines()


def up(controller: FakeController, task: str) -> None:
    log = controller.directory / task / f"{task}.log"
    controller.until(lambda: log.exists() and "up\n" in log.read_text(), "the container runs")


def test_a_container_that_outlives_its_client_is_removed_before_the_tree_is_gone(
    controller: FakeController, engine: Path
) -> None:
    controller.spawn(boxed("a", engine))
    up(controller, "a")
    controller.stop("a")
    assert not controller.exited("a").cleared
    assert isinstance(controller.cleared("a"), RankCleared)
    name = f"sflow-{controller.marker}-a.23.1"
    assert [line.split()[0] for line in calls(engine)] == ["run", "kill", "rm", "ps"]
    assert calls(engine)[2] == f"rm -f -v {name}"
    assert calls(engine)[0].startswith(f"run --name {name} --label sflow.run=")
    assert list((engine / "state").iterdir()) == []


def test_a_container_that_ends_by_itself_is_looked_for_too(controller: FakeController, engine: Path) -> None:
    controller.spawn(boxed("a", engine))
    up(controller, "a")
    for file in (engine / "state").iterdir():
        file.unlink()
    assert controller.exited("a").exit_code == 9
    cleared = controller.cleared("a")
    assert isinstance(cleared, RankCleared)
    assert cleared.survivors == ()


def test_each_attempt_has_its_own_name(controller: FakeController, engine: Path) -> None:
    controller.spawn(boxed("a", engine), boxed("a", engine, attempt=2))
    controller.until(lambda: len(list((engine / "state").glob("*"))) == 2, "two containers")
    controller.stop("a")
    controller.stop("a", attempt=2)
    controller.cleared("a")
    controller.cleared("a", attempt=2)


def test_a_container_that_cannot_be_removed_is_named(controller: FakeController, engine: Path) -> None:
    (engine / "broken").touch()
    controller.spawn(boxed("a", engine))
    up(controller, "a")
    controller.stop("a")
    cleared = controller.cleared("a")
    assert isinstance(cleared, RankCleared)
    assert cleared.survivors == (f"container sflow-{controller.marker}-a.23.1",)


def test_the_guardian_cleans_up_after_a_killed_agent(controller: FakeController, engine: Path) -> None:
    controller.spawn(boxed("a", engine))
    up(controller, "a")
    os.kill(controller.agent, signal.SIGKILL)
    assert controller.exit_status() == 128 + signal.SIGKILL
    assert list((engine / "state").iterdir()) == []
    assert "could not end" not in controller.stderr()


def test_the_guardian_names_what_it_could_not_clean_up(controller: FakeController, engine: Path) -> None:
    (engine / "broken").touch()
    controller.spawn(boxed("a", engine))
    up(controller, "a")
    os.kill(controller.agent, signal.SIGKILL)
    controller.exit_status()
    assert "could not end the container of a#1" in controller.stderr()


def test_a_node_without_the_engine_reports_it(controller: FakeController, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    boxed_spec = boxed("a", tmp_path / "empty")
    alone = msgspec.structs.replace(boxed_spec, env={"PATH": str(tmp_path / "empty")})
    controller.spawn(alone)
    controller.until(lambda: controller.said(LaunchFailed), "the failure")
    (failed,) = controller.said(LaunchFailed)
    assert failed.reason.startswith("it runs in a container, and this node has no docker on PATH")


def test_directories_that_are_not_there_are_not_mounted(controller: FakeController, engine: Path) -> None:
    here, absent = str(engine), f"{engine}/absent"
    task_directory = str(controller.directory / "a")  # made by the agent
    controller.spawn(boxed("a", engine, directories=(here, absent, task_directory)))
    up(controller, "a")
    mounted = f"-v {here}:{here}:rw -v {task_directory}:{task_directory}:rw"
    assert mounted in calls(engine)[0]
    assert absent not in calls(engine)[0]
    controller.stop("a")
    controller.cleared("a")

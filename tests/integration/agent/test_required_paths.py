"""Required paths of a task are checked on its node, by a real agent, just before the task starts."""

import errno
from pathlib import Path

import msgspec

from protocol.messages.facts import LaunchFailed
from tests.integration.agent.fake_controller import FakeController, rank_id, spec


def refused(controller: FakeController) -> LaunchFailed:
    """Return why the rank was not started."""
    controller.until(lambda: controller.said(LaunchFailed), "a refusal")
    (failed,) = controller.said(LaunchFailed)
    assert failed.rank == rank_id("a")
    return failed


def test_a_rank_without_its_artifact_is_not_started(controller: FakeController, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.write_text("x")
    missing = str(tmp_path / "missing")
    order = msgspec.structs.replace(
        spec("a", "bash", "-c", f"touch {tmp_path}/ran"),
        required_paths=(("HERE", str(here)), ("MODEL", missing)),
    )
    controller.spawn(order)
    failed = refused(controller)
    assert failed.errno == errno.ENOENT
    assert failed.reason == f'artifact "MODEL": {missing} does not exist on node n0'
    assert not (tmp_path / "ran").exists()


def test_a_rank_with_its_artifacts_runs(controller: FakeController, tmp_path: Path) -> None:
    order = msgspec.structs.replace(spec("a", "true"), required_paths=(("HERE", str(tmp_path)),))
    controller.spawn(order)
    assert controller.exited("a").exit_code == 0


def test_a_path_below_a_file_does_not_exist(controller: FakeController, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    order = msgspec.structs.replace(spec("a", "true"), required_paths=(("M", f"{tmp_path}/file/x"),))
    controller.spawn(order)
    failed = refused(controller)
    assert failed.reason == f'artifact "M": {tmp_path}/file/x does not exist on node n0'

"""Files of tasks, and the directories that logs are spooled to: nothing that was left or planted there leads out."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from protocol.messages.config import AgentConfig
from protocol.messages.rank_spec import TaskFile
from sflow_agent.files.task_files import with_files
from sflow_agent.logs.spool import make_spool
from sflow_agent.processes.spawn import SpawnError
from tests.integration.agent.fake_controller import spec


def config(directory: Path) -> AgentConfig:
    return AgentConfig(
        run_id="r", node=0, node_name="n", control_endpoints=(), log_endpoints=(), controller_key="", public_key="",
        secret_key="", marker="m", run_directory="/r", nonce="x", spool_directory=str(directory),
    )  # fmt: skip


def with_file(directory: Path, path: str, mode: int = 0o640) -> None:
    ordered = msgspec.structs.replace(
        spec("t", "true"), files=(TaskFile(path=path, content="ours", mode=mode),)
    )
    with_files(ordered, str(directory / "t.log"))


def test_s11_a_file_and_its_folders_have_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    for number, umask in enumerate((0o000, 0o077)):
        old = os.umask(umask)
        try:
            with_file(tmp_path / str(number), "a/b/f.txt")
        finally:
            os.umask(old)
        root = tmp_path / str(number)
        assert stat.S_IMODE((root / "a/b/f.txt").stat().st_mode) == 0o640
        assert {stat.S_IMODE(path.stat().st_mode) for path in (root, root / "a", root / "a/b")} == {0o700}
        assert [path.name for path in (root / "a/b").iterdir()] == ["f.txt"]


@pytest.mark.parametrize("link", ["a", "a/b"])
def test_s11_a_link_on_the_way_to_a_file_is_not_followed(tmp_path: Path, link: str) -> None:
    task, victim = tmp_path / "t", tmp_path / "victim"
    (victim / "b").mkdir(parents=True)
    (task / link).parent.mkdir(parents=True, exist_ok=True)
    (task / link).symlink_to(victim)
    with pytest.raises(SpawnError, match="a link is in its way"):
        with_file(task, "a/b/f.txt")
    assert list(victim.iterdir()) == [victim / "b"]
    assert not list((victim / "b").iterdir())


def test_s11_a_link_in_the_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / "t").mkdir()
    part = f"f.txt.{os.uname().nodename}-{os.getpid()}.part"
    for name in ("f.txt", part):
        (tmp_path / "t" / name).symlink_to(victim)
    with_file(tmp_path / "t", "f.txt")
    assert victim.read_text() == "theirs"
    assert (tmp_path / "t/f.txt").read_text() == "ours"
    assert not (tmp_path / "t/f.txt").is_symlink()


@pytest.mark.parametrize("planted", ["link", "file", "open directory"])
def test_s9_a_spool_that_another_user_made_first_only_costs_its_name(tmp_path: Path, planted: str) -> None:
    expected = tmp_path / f"sflow-{os.getuid()}-m-0"
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    match planted:
        case "link":
            expected.symlink_to(victim)
        case "file":
            expected.write_text("")
        case _:
            expected.mkdir()
            expected.chmod(0o777)
    made = Path(make_spool(config(tmp_path)))
    assert made != expected
    assert made.parent == tmp_path
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert not list(victim.iterdir())


def test_a_spool_of_ours_is_used_again(tmp_path: Path) -> None:
    assert (
        make_spool(config(tmp_path))
        == make_spool(config(tmp_path))
        == str(tmp_path / f"sflow-{os.getuid()}-m-0")
    )

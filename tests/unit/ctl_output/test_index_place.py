"""Where a database may be: on file systems whose locks hold."""

import pytest

from protocol.mounts import Mount
from sflow_ctl.runtime.index.place import index_file, mount_at, mount_problem


@pytest.mark.parametrize(
    ("kind", "options", "may_be"),
    [
        ("ext4", (), True),
        ("xfs", (), True),
        ("overlay", (), True),
        ("tmpfs", (), True),
        ("lustre", ("rw", "flock"), True),
        ("lustre", ("rw", "localflock"), False),
        ("lustre", ("rw",), False),
        ("nfs", (), False),
        ("nfs4", ("local_lock=none",), False),
        ("fuse.sshfs", (), False),
        ("fuse", (), False),
        ("cifs", (), False),
        ("beegfs", (), False),
        ("9p", (), False),
        ("", (), False),
    ],
)
def test_only_where_locks_hold(kind: str, options: tuple[str, ...], may_be: bool) -> None:
    problem = mount_problem(Mount("source", kind, options), "/x/index.sqlite")
    assert (problem == "") is may_be
    assert may_be or (kind or "unknown") in problem


def test_it_is_beside_the_registry_unless_it_is_named() -> None:
    assert str(index_file(None, {"XDG_STATE_HOME": "/s"})) == "/s/sflow/index.sqlite"
    assert str(index_file("/local/i", {})) == "/local/i"
    assert str(index_file(None, {"XDG_STATE_HOME": "relative"})).endswith("/.local/state/sflow/index.sqlite")


def test_a_path_that_does_not_exist_yet_is_where_its_directory_is() -> None:
    assert mount_at("/proc/self/none/at/all").kind == "proc"

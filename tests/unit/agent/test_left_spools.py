"""What an agent of a resumed run finds in the spools of its predecessors."""

import os
from pathlib import Path

import msgspec

from protocol.ids import AttemptId, RankId
from protocol.messages.config import AgentConfig
from sflow_agent.logs.spool import (
    IndexEntry,
    LeftLog,
    SpoolIndex,
    has_left_spools,
    hold,
    make_spool,
    take_left_spools,
    unused_spools,
)


def config(directory: Path, marker: str, *predecessors: str, node: int = 0) -> AgentConfig:
    return AgentConfig(
        run_id="r", node=node, node_name="n", control_endpoints=(), log_endpoints=(), controller_key="", public_key="",
        secret_key="", marker=marker, predecessors=predecessors, run_directory="/r", nonce="x",
        spool_directory=str(directory),
    )  # fmt: skip


def rank(task: str, attempt: int, number: int = 0) -> RankId:
    return RankId(AttemptId(task, attempt), number)


def spool(agent: AgentConfig, *entries: IndexEntry) -> Path:
    """Return the spool of an agent that has started these ranks, with their logs."""
    base = Path(make_spool(agent))
    index = SpoolIndex(str(base))
    for entry in entries:
        index.note(entry)
        path = base / entry.log
        path.parent.mkdir(exist_ok=True)
        if entry.earlier_log is not None:
            path.rename(base / entry.earlier_log)
        path.write_text(str(entry.rank))
    return base


def found(logs: list[LeftLog]) -> dict[RankId, str]:
    return {one.rank: Path(one.path).read_text() for one in logs}


def test_r7_every_attempt_and_process_in_a_spool_is_known(tmp_path: Path) -> None:
    spool(
        config(tmp_path, "r-1"),
        IndexEntry(rank("t", 1), "t/t.log"),
        IndexEntry(rank("t", 2), "t/t.log", "t/t.attempt-1.log"),
        IndexEntry(rank("g", 1, 0), "g/g.rank-0.log"),
        IndexEntry(rank("g", 1, 1), "g/g.rank-1.log"),
    )
    new = config(tmp_path, "r-2", "r-1")
    assert has_left_spools(new)
    logs = take_left_spools(new, make_spool(new))
    assert found(logs) == {
        rank("t", 1): "t#1", rank("t", 2): "t#2", rank("g", 1): "g#1", rank("g", 1, 1): "g#1.1",
    }  # fmt: skip


def test_r7_each_spool_is_taken_by_one_agent_and_survives_its_death(tmp_path: Path) -> None:
    for node in (0, 1):
        spool(config(tmp_path, "r-1", node=node), IndexEntry(rank(f"t{node}", 1), "t/t.log"))
    first, second = (config(tmp_path, "r-2", "r-1", node=node) for node in (0, 1))
    assert len(take_left_spools(first, make_spool(first))) == 2
    assert take_left_spools(second, make_spool(second)) == []
    third = config(tmp_path, "r-3", "r-1", "r-2")
    assert set(found(take_left_spools(third, make_spool(third)))) == {rank("t0", 1), rank("t1", 1)}


def test_r7_spools_of_other_runs_and_of_this_runs_agents_are_left_alone(tmp_path: Path) -> None:
    spool(config(tmp_path, "r-9"), IndexEntry(rank("t", 1), "t/t.log"))
    spool(config(tmp_path, "r-2", node=1), IndexEntry(rank("t", 2), "t/t.log"))
    open_to_all = spool(config(tmp_path, "r-1"), IndexEntry(rank("t", 1), "t/t.log"))
    open_to_all.chmod(0o755)
    assert not has_left_spools(config(tmp_path, "r-2", "r-1"))
    assert not has_left_spools(config(tmp_path, "r-2"))


def test_r7_a_torn_index_and_links_cost_no_other_log(tmp_path: Path) -> None:
    base = spool(
        config(tmp_path, "r-1"), IndexEntry(rank("a", 1), "a/a.log"), IndexEntry(rank("b", 1), "b/b.log")
    )
    (base / "b/b.log").unlink()
    (base / "b/b.log").symlink_to("/etc/passwd")
    with (base / ".index").open("ab") as index:
        index.write(msgspec.json.encode(IndexEntry(rank("c", 1), "c/c.log"))[:10])
    new = config(tmp_path, "r-2", "r-1")
    assert found(take_left_spools(new, make_spool(new))) == {rank("a", 1): "a#1"}


def test_r7_a_truncated_log_goes_on_where_it_was(tmp_path: Path) -> None:
    base = spool(config(tmp_path, "r-1"), IndexEntry(rank("t", 1), "t/t.log"))
    SpoolIndex(str(base)).note(IndexEntry(rank("t", 1), "t/t.log", base=700))
    new = config(tmp_path, "r-2", "r-1")
    (left,) = take_left_spools(new, make_spool(new))
    assert left.base == 700


def test_r32_doctor_sees_spools_that_no_agent_uses(tmp_path: Path) -> None:
    left = spool(config(tmp_path, "w-1-0123abcd"), IndexEntry(rank("t", 1), "t/t.log"))
    used = make_spool(config(tmp_path, "w-2-0123abcd"))
    (tmp_path / f"sflow-{os.getuid()}-other").mkdir(mode=0o700)
    lock = hold(used)
    ((path, run, size),) = unused_spools(str(tmp_path))
    assert (path, run) == (str(left), "w-1-0123abcd")
    assert size > 0
    os.close(lock)
    assert len(list(unused_spools(str(tmp_path)))) == 2

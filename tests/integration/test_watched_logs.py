"""`log_watch` in whole runs: logs of other tasks, of replicas, of other nodes with and without a shared run directory."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import Run, lines_with, nothing_left

HEAD = """version: "0.1"
backends: {pool: {type: local, nodes: 3}}
workflow:
  name: watched
  tasks:
"""
SHARED, SPOOLED = (), ("--log-spool", "spool")
ON = "resources: {{nodes: {{indices: [{}]}}}}"


def run(tmp_path: Path, tasks: str, options: Sequence[str] = ()) -> tuple[Run, str]:
    """Return the output of a run that has succeeded."""
    going = Run.start(HEAD + tasks, tmp_path, *options)
    try:
        status, output = going.finish()
        assert status == 0, output
        nothing_left(going)
    finally:
        going.kill()
    return going, output


def order_of(going: Run) -> list[str]:
    """Tasks and states, as they came."""
    return [f"{e.transition.task} {e.transition.new}" for e in going.entries() if e.transition is not None]


@pytest.mark.parametrize("options", [SHARED, SPOOLED], ids=["shared", "spooled"])
@pytest.mark.parametrize("node", [0, 1], ids=["same node", "another node"])
def test_the_log_of_another_task_is_watched_wherever_it_runs(
    tmp_path: Path, options: Sequence[str], node: int
) -> None:
    tasks = f"""
    - name: proxy
      {ON.format(0)}
      script: ["exec sleep 600"]
      probes: {{readiness: {{log_watch: {{logger: engine, match_pattern: "re:^loaded \\\\d+$"}}}}}}
    - name: engine
      {ON.format(node)}
      script: ["echo loading; sleep 0.3; echo loaded 7; until test -e done; do sleep 0.02; done"]
    - {{name: client, depends_on: [proxy], script: ["touch $SFLOW_WORKSPACE_DIR/done"]}}
"""
    going, output = run(tmp_path, tasks.replace("test -e done", f"test -e {tmp_path}/done"), options)
    assert lines_with((going.directory / "sflow.log").read_text(), "proxy#1 running -> ready", "loaded 7"), (
        output
    )


@pytest.mark.parametrize("options", [SHARED, SPOOLED], ids=["shared", "spooled"])
def test_the_log_of_one_replica_is_watched(tmp_path: Path, options: Sequence[str]) -> None:
    tasks = f"""
    - name: proxy
      {ON.format(0)}
      script: ["exec sleep 600"]
      probes: {{readiness: {{log_watch: {{logger: "engine[1]", match_pattern: up}}}}}}
    - name: engine
      replicas: {{count: 2}}
      {ON.format(2)}
      script:
        - "until test -e {tmp_path}/go$SFLOW_REPLICA_INDEX; do sleep 0.02; done"
        - "echo up | tee {tmp_path}/up$SFLOW_REPLICA_INDEX; exec sleep 600"
      probes: {{readiness: {{log_watch: {{match_pattern: up}}}}}}
    - {{name: first, script: ["touch {tmp_path}/go0; until grep -q up {tmp_path}/up0; do sleep 0.02; done; sleep 0.5"]}}
    - {{name: second, depends_on: [first], script: ["touch {tmp_path}/go1"]}}
    - {{name: client, depends_on: [proxy], script: ["true"]}}
"""
    going, _ = run(tmp_path, tasks, options)
    order = order_of(going)
    assert order.index("engine_0 ready") < order.index("second running") < order.index("proxy ready")


@pytest.mark.parametrize("options", [SHARED, SPOOLED], ids=["shared", "spooled"])
def test_matches_of_another_log_are_counted_and_conditions_are_joined(
    tmp_path: Path, options: Sequence[str]
) -> None:
    # Three matches that come in pieces, and a log of its own: only with both is it ready.
    tasks = f"""
    - name: proxy
      {ON.format(0)}
      script: ["until test -e {tmp_path}/own; do sleep 0.02; done; echo own; exec sleep 600"]
      probes:
        readiness:
          all:
            - log_watch: {{logger: engine, match_pattern: worker, match_count: 3}}
            - log_watch: {{match_pattern: own}}
    - name: engine
      {ON.format(1)}
      script:
        - "for i in 1 2 3; do printf wor; sleep 0.1; echo ker $i; done; touch {tmp_path}/own"
        - "until test -e {tmp_path}/done; do sleep 0.02; done"
    - {{name: client, depends_on: [proxy], script: ["touch {tmp_path}/done"]}}
"""
    going, output = run(tmp_path, tasks, options)
    assert lines_with(
        (going.directory / "sflow.log").read_text(), "proxy#1 running -> ready", "worker 3; own"
    ), output


@pytest.mark.parametrize("options", [SHARED, SPOOLED], ids=["shared", "spooled"])
def test_a_failure_is_seen_in_the_log_of_another_task(tmp_path: Path, options: Sequence[str]) -> None:
    tasks = f"""
    - name: proxy
      {ON.format(0)}
      script: ["exec sleep 600"]
      probes: {{failure: {{log_watch: {{logger: engine, match_pattern: CUDA error}}, failure_threshold: 1}}}}
    - name: engine
      {ON.format(1)}
      script: ["echo CUDA error: out of memory; exec sleep 600"]
"""
    going = Run.start(HEAD + tasks, tmp_path, *options)
    try:
        status, output = going.finish()
        assert status == 1
        assert lines_with(output, "proxy", "CUDA error: out of memory"), output
        nothing_left(going)
    finally:
        going.kill()


@pytest.mark.parametrize("options", [SHARED, SPOOLED], ids=["shared", "spooled"])
def test_f26_the_log_of_an_earlier_attempt_does_not_make_a_task_ready(
    tmp_path: Path, options: Sequence[str]
) -> None:
    # The first attempt says that it is up and dies; the second one says nothing until it may.
    script = (
        f'if [ "$SFLOW_ATTEMPT" = 1 ]; then echo up; until test -e {tmp_path}/seen; do sleep 0.02; done; exit 3; fi; '
        f"echo attempt $SFLOW_ATTEMPT; touch {tmp_path}/second; until test -e {tmp_path}/go; do sleep 0.02; done; "
        "echo up again; exec sleep 600"
    )
    tasks = f"""
    - name: engine
      {ON.format(0)}
      script: ['{script}']
      retries: {{count: 1, interval: 0}}
      probes: {{readiness: {{log_watch: {{match_pattern: up}}, interval: 0}}}}
    - name: client
      {ON.format(0)}
      depends_on: [engine]
      script: ["touch {tmp_path}/seen; until test -e {tmp_path}/go; do sleep 0.02; done"]
    - name: late
      {ON.format(0)}
      script: ["until test -e {tmp_path}/second; do sleep 0.02; done; sleep 0.5"]
    - {{name: release, {ON.format(0)}, depends_on: [late], script: ["touch {tmp_path}/go"]}}
    - {{name: after, {ON.format(0)}, depends_on: [engine, late], script: ["echo after"]}}
"""
    going, _ = run(tmp_path, tasks, options)
    order = order_of(going)
    assert [state for state in order if state.startswith("engine ")].count("engine ready") == 2
    # Not by the first attempt's line: only once it was let go, which is when `late` has ended.
    second = len(order) - 1 - order[::-1].index("engine ready")
    assert order.index("late completed") < second < order.index("after running")
    assert (going.directory / "engine" / "engine.attempt-1.log").read_text() == "up\n"
    assert (going.directory / "engine" / "engine.log").read_text() == "attempt 2\nup again\n"

"""The process of an agent in its first moments."""

import os

from protocol.machine.marks import LAST_AGENT
from sflow_ctl.runtime.agent_process import end_unused, spawn_agent
from sflow_ctl.runtime.fleet.local import _describe_end


def test_r13_a_guardian_that_has_just_been_started_survives_signals() -> None:
    """The last agent of a node may be announced before the guardian has a handler for that."""
    agent = spawn_agent()
    os.kill(agent.pid, LAST_AGENT)
    stderr = os.dup(agent.stderr)
    end_unused([agent], 20.0)
    agent.stderr = stderr
    assert _describe_end(agent).startswith("its agent ended with "), "it was not killed"
    os.close(stderr)


def test_an_end_by_a_signal_without_a_name_is_described() -> None:
    agent = spawn_agent()
    stderr = os.dup(agent.stderr)
    end_unused([agent], 20.0)
    agent.stderr, agent.exit_status = stderr, -37
    assert _describe_end(agent) == "its agent was killed by signal 37"
    os.close(stderr)

"""Reads an agent's configuration: from its job step's environment, standard input, or the agent before. Used by `agent`."""

import os
from collections.abc import Mapping

import msgspec

from protocol.messages.config import AgentConfig, StepConfig
from protocol.session.codec import decode_config, decode_step_config
from sflow_agent.connection.legacy import Legacy

FROM_INPUT = "-"


def read_config(encoded: str | None) -> AgentConfig | None:
    """Return the configuration from the variable of a job step, or from stdin; None when stdin ends without one.

    A step for the place of an agent that was killed says in the variable that it is in stdin.

    Raises: MalformedMessageError, ValueError.
    """
    if encoded not in (None, FROM_INPUT):
        assert encoded is not None
        import base64

        return for_this_node(decode_step_config(base64.b64decode(encoded)), os.environ)
    with open(0, "rb", closefd=False) as stdin:
        frame = stdin.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return decode_config(frame) if frame else None


def left_config(legacy: Legacy) -> AgentConfig:
    """Return the configuration that the agent before has left. Raises: MalformedMessageError."""
    return msgspec.structs.replace(decode_config(legacy.config()), follows=legacy.follows)


def for_this_node(step: StepConfig, environ: Mapping[str, str]) -> AgentConfig:
    """Add this node's index, name and keys to the step's common configuration. Raises: ValueError."""
    name = environ.get("SLURMD_NODENAME", "")
    if not name or name not in step.nodes:
        raise ValueError(f'SLURMD_NODENAME is "{name}", which is not a node of the job')
    node = step.nodes.index(name)
    from sflow_agent.connection.network import own_keys  # only in a job step

    public_key, secret_key = own_keys(step.key_seed, node)
    return msgspec.structs.replace(
        step.common,
        node=node,
        node_name=name,
        public_key=public_key,
        secret_key=secret_key,
        must_enrol=True,
    )

"""The configuration that agents are started with."""

from typing import ClassVar

import msgspec


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an agent needs to connect to the controller.

    Travels over its stdin, never on a command line.
    """

    run_id: str
    node: int
    node_name: str
    control_endpoints: tuple[str, ...] = ()
    log_endpoints: tuple[str, ...] = ()
    """Where the controller listens; empty for an agent that has inherited a door to it."""
    controller_key: str = ""
    """The controller's public CURVE key, Z85. Pinned."""
    must_enrol: bool = False
    """The keys come from a job step's environment, which others of the same user can read: they are good for one hello, with
    which the agent names a key that it has made itself."""
    public_key: str = ""
    secret_key: str = ""
    marker: str
    """Value of `SFLOW_RUN_MARKER` in all processes that the agent starts."""
    predecessors: tuple[str, ...] = ()
    """The markers of the run's earlier agents, if it is resumed: what they have left on the node is ended first, and logs
    that they could not hand over are sent."""
    has_containers: bool = False
    """Tasks run in containers: of those of `predecessors` some may be left."""
    docker_host: str | None = None
    """The service by whose engines this node's containers are run, and under which name its client knows it, as in
    `Container`."""
    context: str | None = None
    run_directory: str
    """Absolute, as the controller sees it."""
    nonce: str
    """Content of `.sflow/nonce` in the run directory: equal on this node means the directory is shared."""
    nonce_path: str | None = None
    """The path of the nonce, if it is not in the run directory, which may be made after the agents."""
    spool_directory: str | None = None
    """Write logs below this directory and send them, although the run directory may be shared."""
    copy_limit_bytes: int = 10 << 30
    """Of one task, the most bytes of files that are sent to the controller, or fetched from it, where the run directory is not
    shared."""
    is_interface_chosen: bool = False
    """The user has named the network: programs that would choose one themselves get its name."""
    simulated_gpus: int = 0
    orphan_grace_s: float = 10.0
    restarts: int = 0
    """How often within ten minutes the guardian may start another agent when one was killed."""
    follows: str = ""
    """How the agent before on this node ended, as "was killed by SIGKILL": this one takes its place. Empty for the first."""
    controller_incarnation: int = 0
    """The newest controller that the agent before has obeyed: an older one is refused."""
    log_level: str = "warning"
    controller_pid: int | None = None
    """The pid of a controller on the same machine that has started the guardian, else None.

    The agent waits when it is stopped, and ends when it dies, unless `supervisor_pid` lives.
    """
    supervisor_pid: int | None = None
    """The pid of the process that starts another controller when that one is killed; None if none does."""


class ControllerPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where agents find a controller that has taken the run over with new ports, in a file of the run directory."""

    FILE: ClassVar[str] = ".sflow/controller.json"
    """Its path in the run directory."""
    incarnation: int
    control_endpoints: tuple[str, ...]
    log_endpoints: tuple[str, ...]
    """As many as the ones before, and in the same order."""


class StepConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The common configuration of a job step's agents, in an environment variable that they wipe.

        Each agent completes `common`: its node is its position in `nodes`, by Slurm's name, its keys come from
    `key_seed`. Positions of nodes outside of the job are empty.
    """

    common: AgentConfig
    nodes: tuple[str, ...]
    key_seed: bytes

"""What agents are started with."""

import msgspec


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an agent needs to call home. Travels over its stdin, never on a command line."""

    run_id: str
    node: int
    node_name: str
    control_endpoints: tuple[str, ...]
    log_endpoints: tuple[str, ...]
    controller_key: str
    """The controller's public CURVE key, Z85. Pinned."""
    must_enrol: bool = False
    """The keys come from a job step's environment, which others of the same user can read: they are good for one hello, with
    which the agent names a key that it has made itself."""
    public_key: str
    secret_key: str
    marker: str
    """Value of `SFLOW_RUN_MARKER` in everything the agent starts."""
    predecessor: str | None = None
    """That of the run's earlier agents, if it is resumed: what still carries it is ended first."""
    run_directory: str
    """Absolute, as the controller sees it."""
    nonce: str
    """Content of `.sflow/nonce` in the run directory: equal on this node means the directory is shared."""
    nonce_path: str | None = None
    """Where the nonce is, if not in the run directory: that may be made after the agents."""
    spool_directory: str | None = None
    """Write logs below this directory and send them, although the run directory may be shared."""
    is_interface_chosen: bool = False
    """A person has said which network is to be used: programs that would choose one themselves are told."""
    simulated_gpus: int = 0
    orphan_grace_s: float = 10.0
    log_level: str = "warning"
    controller_pid: int | None = None
    """Of a controller on the same machine, which has started the guardian: the agent ends when it dies, and waits when it is
    stopped. None where it runs elsewhere, or is not the parent."""


class StepConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one job step gives to all of its agents alike, in an environment variable that they wipe.

    Each completes `common` by itself: its node is its place in `nodes`, by Slurm's name for it, its first keys come from
    `key_seed`. Those open no more than the door to `Hello.key`, and nothing once the agents have reported: srun keeps the
    variable in its own environment. Places of nodes that are not of the job are empty.
    """

    common: AgentConfig
    nodes: tuple[str, ...]
    key_seed: bytes

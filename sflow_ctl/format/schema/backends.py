"""Where tasks run."""

from typing import Literal

from sflow_ctl.format.schema.values import IntExpr, Part, Time


class Backend(Part, frozen=True, kw_only=True):
    """A group of nodes. `local` backends take `name`, `type`, `default`, `nodes` and `gpus_per_node`; `slurm` ones take all."""

    name: str
    """Name that tasks use in `backend:`, and expressions in `${{ backends.NAME.nodes }}`."""
    type: Literal["local", "slurm"]
    """`local`: this machine; `slurm`: the nodes of a Slurm job."""
    default: bool = False
    """Use this backend for tasks that name none. Default: the first backend of the file is used."""
    nodes: IntExpr | None = None
    """Number of nodes. Local backends simulate more than one with several agents. Default: 1 (local); required (slurm)."""
    gpus_per_node: IntExpr | None = None
    """GPUs of each node. Default: those of the machine (local); required (slurm)."""
    account: str | None = None
    """Slurm account of the job. Default: the setting `account`."""
    partition: str | None = None
    """Slurm partition of the job. Default: the setting `partition`."""
    time: Time | None = None
    """Time limit of the Slurm job, for example `01:30:00`. Required for slurm backends."""
    job_name: str | None = None
    """Name of the Slurm job. Default: the workflow's name."""
    extra_args: list[str] = []
    """More options for the command that asks for the job (`salloc`, `sbatch`), for example `--qos=high`."""

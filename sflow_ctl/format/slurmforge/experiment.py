"""An experiment of either generation, and the workflow that it becomes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Struct, field

from sflow_ctl.format.slurmforge.axes import OldSweep, new_sweep
from sflow_ctl.format.slurmforge.job import backend, most, room
from sflow_ctl.format.slurmforge.names import safe_name
from sflow_ctl.format.slurmforge.stage import Stage
from sflow_ctl.plan.words import PolicyWord

BACKEND = "cluster"


class MailOrder(NamedTuple):
    """Who is written to, and when: slurmforge's `afterany`, `afterok`, `afternotok`."""

    to: Sequence[str]
    when: str


class Experiment(Struct, kw_only=True):
    """What an experiment says, in our words."""

    name: str
    stages: Sequence[Stage]
    labels: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    sweep: OldSweep
    gpus_at_once: int | None = None
    """GPUs that all runs together may use; None for no limit."""
    has_cluster: bool = True
    """It runs in a Slurm job; False for the machine that it is started on."""
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What is set up before stages, by the names that they use."""
    mail: MailOrder | None = None
    policies: dict[str, PolicyWord] = field(default_factory=dict)
    """What findings mean, by their codes."""

    def document(self) -> dict[str, Any]:
        """Return the workflow file."""
        sweep = new_sweep(self.sweep)
        if sweep and self.gpus_at_once and any(stage.request.gpus_per_node for stage in self.stages):
            sweep["gpu_budget"] = self.gpus_at_once
        backends = self._backends()
        named = BACKEND if backends else None
        return {
            "version": "0.1",
            **({"variables": dict(self.variables)} if self.variables else {}),
            **({"sweep": sweep} if sweep else {}),
            **({"backends": backends} if backends else {}),
            **({"settings": {"validation": {"rules": dict(self.policies)}}} if self.policies else {}),
            **({"environments": self.environments} if self.environments else {}),
            "workflow": {
                "name": safe_name(self.name),
                **({"labels": self.labels} if self.labels else {}),
                **({"notify": self._notices()} if self.mail else {}),
                "tasks": [stage.task(named) for stage in self.stages],
            },
        }

    def _backends(self) -> dict[str, Any]:
        if not self.has_cluster:
            return {}
        jobs = {
            id(stage.request): stage.request for stage in self.stages
        }  # of 0.x, where evaluation was part of the job
        request = most(list(jobs.values()))
        return {BACKEND: backend(request, room(request, self.sweep.cells, self.gpus_at_once))}

    def _notices(self) -> list[dict[str, Any]]:
        assert self.mail is not None
        return [
            {"mail": list(self.mail.to), "when": self.mail.when if self.mail.when != "after" else "afterany"}
        ]

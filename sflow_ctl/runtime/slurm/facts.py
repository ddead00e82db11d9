"""Asks Slurm about a job and its configuration, for the doctor."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

from sflow_ctl.doctor.facts import SLURM_SETTINGS, SlurmFacts
from sflow_ctl.runtime.slurm.allocation import Allocation, ask
from sflow_ctl.slurm.step_command import slurm_version

_SETTINGS = ("SLURM_VERSION", *SLURM_SETTINGS, "LaunchParameters")


def slurm_facts(allocation: Allocation) -> SlurmFacts:
    """Ask all independent questions at once; facts that Slurm does not answer are empty."""
    questions = (
        ("scontrol", "show", "job", "--oneliner", allocation.job_id),
        ("scontrol", "show", "config"),
        ("srun", "--help"),
        ("scontrol", "--version"),
    )
    with ThreadPoolExecutor(len(questions)) as threads:
        job, config, help_text, version = threads.map(lambda question: ask(*question), questions)
    fields = dict(re.findall(r"(\w+)=(\S*)", job))
    known = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", config, re.MULTILINE))
    left_s = None if allocation.ends_at is None else allocation.ends_at - time.monotonic()
    return SlurmFacts(
        job_id=allocation.job_id,
        version=known.get("SLURM_VERSION", "") or _version(version),
        partition=fields.get("Partition", ""),
        left_s=left_s,
        has_pyxis="--container-image" in help_text,
        settings=tuple((name, known[name]) for name in _SETTINGS if name in known),
    )


def _version(said: str) -> str:
    version = slurm_version(said)
    return "" if version is None else "{}.{:02}".format(*version)

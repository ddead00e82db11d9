"""The files that configure Slurm and munge according to the settings."""

import os
import stat
import subprocess
from pathlib import Path

from tests.slurm.machine import ENVIRONMENT
from tests.slurm.settings import HEAD, Settings, address

NULL_DEVICE = os.makedev(1, 3)
LATER_TIMEOUT_S = 30


def write_configuration(settings: Settings, directory: Path) -> None:
    """Makes the cluster's directories and fills `etc`."""
    etc = directory / "etc"
    for name in ("etc", "log", "state", "spool", "devices", "shared", "disks"):
        (directory / name).mkdir()
    (etc / "slurm.conf").write_text(slurm_conf(settings, directory))
    (etc / "hosts").write_text(hosts(settings))
    if settings.process_tracking == "cgroup":
        (etc / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\n")
    key = etc / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    if settings.gpus:
        # Slurm shows GPUs to a job only if they are character devices, whichever.
        for index in range(settings.gpus):
            os.mknod(directory / "devices" / f"nvidia{index}", stat.S_IFCHR | 0o666, NULL_DEVICE)
        devices = f"{directory}/devices/nvidia[0-{settings.gpus - 1}]"
        (etc / "gres.conf").write_text(f"Name=gpu File={devices} Flags=nvidia_gpu_env\n")


def slurm_conf(settings: Settings, directory: Path) -> str:
    """Everything happens as soon as Slurm can, and nothing is kept from a job that has ended."""
    values = {
        "ClusterName": "rig",
        "SlurmctldHost": f"{HEAD}({address(HEAD)})",
        "SlurmUser": "root",
        "StateSaveLocation": f"{directory}/state",
        "SlurmdSpoolDir": f"{directory}/spool/%n",
        "TmpFS": "/run",  # mpi/pmix puts files of the same name there on every node
        "SlurmctldPidFile": "/run/slurmctld.pid",
        "SlurmdPidFile": "/run/slurmd.pid",
        "SlurmctldLogFile": f"{directory}/log/slurmctld.log",
        "SlurmdLogFile": f"{directory}/log/slurmd-%n.log",
        "SlurmdParameters": "config_overrides",  # believe CPUs and RealMemory
        "ProctrackType": f"proctrack/{settings.process_tracking}",
        "TaskPlugin": "task/none",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "DefMemPerCPU": "1000",
        "ReturnToService": "2",
        "JobRequeue": "1",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "SlurmdTimeout": str(slurmd_timeout_s(settings)),
        # With Slurm's 10 and 2 s a silent node would be DOWN after half a minute.
        "MessageTimeout": "5",
        "TCPTimeout": "1",
        "KillWait": str(settings.kill_wait_s),
        "MinJobAge": "3600",
        # Without the first two a job waits up to 3 s for company, or 30 s for its turn.
        "SchedulerParameters": "batch_sched_delay=0,bf_interval=1,sched_interval=1,requeue_delay=1",
        # A requeued job starts no sooner than its old credential has expired.
        "AuthInfo": "cred_expire=5",
    }
    if settings.gpus:
        values["GresTypes"] = "gpu"
    for key, value in settings.options.items():
        values[next((known for known in values if known.lower() == key.lower()), key)] = value
    lines = [f"{key}={value}" for key, value in values.items() if value]
    has = f"CPUs={settings.cpus} RealMemory={settings.memory_mb} State=UNKNOWN"
    gpus = f" Gres=gpu:{settings.gpus}" if settings.gpus else ""
    lines += [f"NodeName={node} NodeAddr={address(node)} {has}{gpus}" for node in settings.node_names]
    lines += partitions(settings)
    return "\n".join(lines) + "\n"


def slurmd_timeout_s(settings: Settings) -> int:
    """Return the time after which a silent node is DOWN.

    24.11 counts the answers to a round of pings when the last of them is in or given up, up to 15 s later beside a node
    without power: with less than that healthy nodes are DOWN, too, and their jobs are requeued. Measured.
    """
    said = subprocess.run(
        ["slurmctld", "-V"], capture_output=True, text=True, env=ENVIRONMENT, check=True
    ).stdout
    return settings.slurmd_timeout_s if "22.05" in said else max(settings.slurmd_timeout_s, LATER_TIMEOUT_S)


def partitions(settings: Settings) -> list[str]:
    """Work in `main` takes nodes from work in the others, which are named after what happens to it then."""
    common = f"Nodes=ALL DefaultTime={settings.time_limit} MaxTime=INFINITE State=UP"
    return [
        f"PartitionName=main Default=YES PriorityTier=10 PreemptMode=OFF {common}",
        f"PartitionName=requeued PriorityTier=1 PreemptMode=REQUEUE {common}",
        f"PartitionName=cancelled PriorityTier=1 PreemptMode=CANCEL GraceTime={settings.grace_s} {common}",
    ]


def hosts(settings: Settings) -> str:
    """/etc/hosts of every machine."""
    names = "".join(f"{address(name)} {name}\n" for name in settings.machine_names)
    return f"127.0.0.1 localhost\n::1 localhost\n{names}"

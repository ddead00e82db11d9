"""Collects the facts of a node for the doctor, each part by a function that may block: they run in threads.

Each returns the fields of a `NodeReport` that it fills.

Raises: OSError on failure.
"""

import contextlib
import importlib.metadata
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import zmq

from protocol.messages.inspection import Directory, Engine, LeftSpool, Limit, NodeReport, Quota
from protocol.mounts import mount_of
from sflow_agent.inspection.file_systems import least, quota_of
from sflow_agent.inspection.leftovers import left_containers, left_processes
from sflow_agent.limits import inherited_limit
from sflow_agent.logs.spool import unused_spools
from sflow_agent.processes.captured import run_captured
from sflow_agent.processes.engines import ENGINES

WRITTEN_BYTES = 1 << 20
_ANSWER_WITHIN_S = 8.0
_LIMITS = {
    "nproc": resource.RLIMIT_NPROC,
    "memlock": resource.RLIMIT_MEMLOCK,
    "core": resource.RLIMIT_CORE,
    "stack": resource.RLIMIT_STACK,
    "fsize": resource.RLIMIT_FSIZE,
    "as": resource.RLIMIT_AS,
}
_SLURM = ("SLURM_CPUS_ON_NODE", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "SLURM_MEM_PER_NODE", "SLURM_STEP_ID")
_ENGINE_QUESTIONS = {
    "apptainer": ("apptainer", "version"),
    "enroot": ("enroot", "version"),
    "podman": ("podman", "info", "--format", "{{.Version.Version}}"),
    "docker": ("docker", "version", "--format", "{{.Server.Version}}"),
}
"""Commands for engines with a service or a store, so that an answer shows that it works."""
Fields = dict[str, object]


def parts(
    directories: tuple[tuple[str, str], ...], marker: str, token: str, gpu_uuids: tuple[str, ...]
) -> dict[str, Callable[[], Fields]]:
    """Return all parts by name. `marker` is this run's own, `token` makes names of files unique."""
    places = (*directories, ("temporary files", os.environ.get("TMPDIR") or "/tmp"))
    looked_at: dict[str, Callable[[], Fields]] = {
        f"{role} {path}": partial(_directory, role, path, token) for role, path in places
    }
    return {
        "system": _system,
        "addresses": _addresses,
        "cgroups and memory": _memory,
        **looked_at,
        "shared memory": partial(_directory, "shared memory", "/dev/shm", None),
        **{f"container engine {name}": partial(_engine, name, marker) for name in ENGINES},
        "earlier processes": lambda: {"leftovers": left_processes(marker)},
        "earlier logs": partial(_spools, tuple(path for _, path in places)),
        "GPUs": partial(_gpus, gpu_uuids),
    }


def merged(report: NodeReport, part: Fields) -> NodeReport:
    """Return the report with one more part; lists are extended."""
    fields = {
        name: (*getattr(report, name), *value) if isinstance(value, tuple) else value
        for name, value in part.items()
    }
    return msgspec.structs.replace(report, **fields)


def _system() -> Fields:
    limits = [Limit(name="nofile", soft=_limit(inherited_limit()[0]), hard=_limit(inherited_limit()[1]))]
    for name, number in _LIMITS.items():
        soft, hard = resource.getrlimit(number)
        limits.append(Limit(name=name, soft=_limit(soft), hard=_limit(hard)))
    versions = {
        "python": platform.python_version(),
        "pyzmq": zmq.__version__,
        "libzmq": zmq.zmq_version(),
        "msgspec": msgspec.__version__,
    }
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # run from a source tree
        versions["sflow-ctl"] = importlib.metadata.version("sflow-ctl")
    return {
        "kernel": platform.release(),
        "limits": tuple(limits),
        "slurm": tuple((name, os.environ[name]) for name in _SLURM if name in os.environ),
        "has_infiniband": any(Path("/sys/class/infiniband").glob("*")),
        "versions": tuple(versions.items()),
    }


def _limit(number: int) -> int | None:
    return None if number == resource.RLIM_INFINITY else number


def _addresses() -> Fields:
    from sflow_agent.node.addresses import addresses

    return {"addresses": addresses()}


def _memory() -> Fields:
    available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    quota, limit = _cgroup_limits()
    return {"memory_available_bytes": available, "cpu_quota": quota, "memory_limit_bytes": limit}


def _cgroup_limits() -> tuple[float | None, int | None]:
    """Return (CPUs, bytes) that the cgroups of this process allow, all levels considered.

    Source: cgroups(7); cgroup-v2 `cpu.max` and `memory.max`, v1 `cpu.cfs_quota_us` and
    `memory.limit_in_bytes`.
    """
    cpus: list[float] = []
    memory: list[str] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        roots = {
            "": "/sys/fs/cgroup",
            "memory": "/sys/fs/cgroup/memory",
            "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
            "cpu": "/sys/fs/cgroup/cpu",
        }
        if controllers not in roots:
            continue
        root = Path(roots[controllers])
        place = root / group.lstrip("/")
        for level in (place, *(above for above in place.parents if above.is_relative_to(root))):
            maximum = _read(level / "cpu.max").split()
            if len(maximum) == 2 and maximum[0].isdecimal():
                cpus.append(int(maximum[0]) / int(maximum[1]))
            share, period = _read(level / "cpu.cfs_quota_us"), _read(level / "cpu.cfs_period_us")
            if share.isdecimal() and period.isdecimal():
                cpus.append(int(share) / int(period))
            memory += [_read(level / "memory.max"), _read(level / "memory.limit_in_bytes")]
    limit = least(*memory)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(cpus, default=None), limit if limit is not None and limit < total else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _directory(role: str, path: str, token: str | None) -> Fields:
    """Describe a directory. With a token, write and remove a file there."""
    real = os.path.realpath(path)
    try:
        found = os.statvfs(real)
    except OSError as error:
        return {"directories": (Directory(role=role, path=path, problem=_reason(error)),)}
    source, kind, _ = mount_of(real, Path("/proc/self/mountinfo").read_text())
    write_s, problem = None, ""
    if token is not None:
        try:
            write_s = _write(real, token)
        except OSError as error:
            problem = _reason(error)
    elif not os.access(real, os.W_OK):
        problem = "may not be written"
    looked_at = Directory(
        role=role,
        path=path,
        file_system=kind,
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        total_files=found.f_files,
        free_files=found.f_favail,
        write_s=write_s,
        quota=_quota(real, source, kind) if token is not None else None,
        problem=problem,
    )
    return {"directories": (looked_at,)}


def _write(directory: str, token: str) -> float:
    """Return the seconds until a MiB is on disk: quotas and full disks may only show at a sync.

    Raises: OSError.
    """
    path = f"{directory}/.sflow-doctor-{token}-{os.uname().nodename}-{os.getpid()}"
    started = time.monotonic()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        data = memoryview(bytes(WRITTEN_BYTES))
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        os.unlink(path)  # noqa: PTH108
    return time.monotonic() - started


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _quota(path: str, source: str, kind: str) -> Quota | None:
    """Return the quota; None when no program here reports one."""
    question: tuple[str, ...] = ("quota", "--no-wrap", "--raw-grace", "--user")
    name = source
    if kind == "lustre":
        question, name = ("lfs", "quota", "-q", "-u", str(os.getuid()), path), path
    try:
        said, _ = run_captured(question, _ANSWER_WITHIN_S)
    except OSError:
        return None
    return quota_of(said, name)


def _engine(name: str, own_marker: str) -> Fields:
    path = shutil.which(name)
    if path is None:
        return {}
    try:
        said, complaint = run_captured(_ENGINE_QUESTIONS[name], _ANSWER_WITHIN_S)
    except OSError as error:
        return {"engines": (Engine(name=name, path=path, problem=str(error.strerror or error)),)}
    if said:
        engines = (Engine(name=name, path=path, version=said.split()[-1]),)
        return {"engines": engines, "leftovers": left_containers(name, own_marker)}
    lines = complaint.splitlines()
    return {
        "engines": (Engine(name=name, path=path, problem=lines[-1][:300] if lines else "it prints nothing"),)
    }


def _spools(directories: tuple[str, ...]) -> Fields:
    """Return logs that earlier runs could not hand over."""
    return {
        "spools": tuple(
            LeftSpool(path=path, run=run, size_bytes=size)
            for directory in dict.fromkeys(directories)
            for path, run, size in unused_spools(directory)
        )
    }


def _gpus(uuids: tuple[str, ...]) -> Fields:
    if not any(uuids):
        return {}
    from sflow_agent.inspection.gpu_health import gpu_health

    version, health = gpu_health(uuids)
    return {"gpu_health": health, "versions": (("driver", version),) if version else ()}

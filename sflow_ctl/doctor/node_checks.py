"""Checks of each node by itself."""

from collections.abc import Iterator, Sequence

from protocol.messages.inspection import Directory, Leftover, NodeReport
from protocol.messages.node import Gpu
from protocol.text.counted import counted
from sflow_ctl.doctor.facts import Examination, ExaminedNode
from sflow_ctl.doctor.verdicts import Topic, Verdict, fail, names, ok, seconds, size, span, topic, warn

GIB = 1 << 30
LEAST_OPEN_FILES = 1024
LEAST_OPEN_FILES_HARD = 4096
LEAST_PROCESSES = 2048
LEAST_FREE_BYTES = GIB
LEAST_FREE_FILES = 10_000
LEAST_SHARED_MEMORY = GIB
"""NCCL and data loaders fail with Docker's default of 64 MiB."""
SLOW_WRITE_S = 2.0
NEARLY_FULL = 0.95
BUSY_BYTES = GIB
"""A driver alone keeps up to 0.6 GiB of a GPU."""
_RANDOM_CHARACTERS = 9
"""A marker is the run's id and "-xxxxxxxx"."""
_FIXES = {
    "temporary files": (fail, "TMPDIR must name a directory that can be written"),
    "shared memory": (warn, "mount it: NCCL and data loaders need it"),
}
Reported = Sequence[tuple[ExaminedNode, NodeReport]]


def reported(examination: Examination) -> list[tuple[ExaminedNode, NodeReport]]:
    """Return the nodes that have described themselves."""
    return [(node, node.report) for node in examination.nodes if node.report is not None]


def _given(report: NodeReport, name: str) -> int | None:
    """Return a number that Slurm has given to the node."""
    value = dict(report.slurm).get(name, "")
    return int(value) if value.isdecimal() else None


# ---------------------------------------------------------------- processors and memory


def cpu_topic(examination: Examination) -> Topic:
    """Judge whether tasks may use the processors that the job owns."""
    verdicts: list[Verdict] = []
    for node, report in reported(examination):
        seen, online = node.inventory.cpus, node.inventory.cpus_online
        owned = _given(report, "SLURM_CPUS_ON_NODE")
        if owned is not None and seen < min(owned, online):
            text = f"tasks may run on {seen} of the {owned} CPUs that the job owns"
            fix = "remove SLURM_CPU_BIND or taskset around sflow-ctl; request whole nodes (--exclusive)"
            verdicts.append(warn(node.name, text, fix))
        if report.cpu_quota is not None and report.cpu_quota < seen:
            text = f"a cgroup allows the time of {report.cpu_quota:g} CPUs, programs see {seen}"
            fix = "raise the container's --cpus, or limit the threads of programs (OMP_NUM_THREADS)"
            verdicts.append(warn(node.name, text, fix))
        job = "" if owned is None else f", {owned} owned by the job"
        verdicts.append(ok(node.name, f"{seen} of {online} CPUs{job}"))
    return topic("cpus", f"{span(str(node.inventory.cpus) for node in examination.nodes)} per node", verdicts)


def memory_topic(examination: Examination) -> Topic:
    """Judge whether memory is available."""
    verdicts: list[Verdict] = []
    for node, report in reported(examination):
        total = report.memory_limit_bytes or node.inventory.memory_bytes
        limit = " (a cgroup's limit)" if report.memory_limit_bytes else ""
        available = report.memory_available_bytes
        if available < total * (1 - NEARLY_FULL):
            text = f"{size(available)} of {size(total)} memory is available"
            verdicts.append(
                warn(
                    node.name,
                    text,
                    "find the processes that use it (ps --sort=-rss aux), or use another node",
                )
            )
        verdicts.append(ok(node.name, f"{size(total)}{limit}, {size(available)} available"))
    sizes = span(
        size(report.memory_limit_bytes or node.inventory.memory_bytes)
        for node, report in reported(examination)
    )
    return topic("memory", f"{sizes} per node", verdicts)


# ---------------------------------------------------------------- GPUs


def gpu_topic(examination: Examination) -> Topic:
    """Judge whether all GPUs are there, idle and without errors."""
    verdicts: list[Verdict] = []
    for node in examination.nodes:
        verdicts += _gpu_count(node, examination)
        verdicts += [
            warn(node.name, text, "run nvidia-smi there for details") for text in node.inventory.gpu_problems
        ]
        verdicts += [_in_use(node.name, gpu) for gpu in node.inventory.gpus if gpu.used_bytes >= BUSY_BYTES]
        verdicts += _gpu_health(node)
        for gpu in node.inventory.gpus:
            free = f", {size(gpu.used_bytes)} of {size(gpu.memory_bytes)} in use" if gpu.memory_bytes else ""
            verdicts.append(
                ok(node.name, f"GPU {gpu.index}: {gpu.name or 'of unknown kind'} {gpu.uuid}{free}")
            )
    kinds = span(_gpus_of(node) for node in examination.nodes)
    return topic("gpus", f"{kinds} per node", verdicts)


def _gpus_of(node: ExaminedNode) -> str:
    found = node.inventory.gpus
    kinds = " + ".join(dict.fromkeys(gpu.name for gpu in found if gpu.name))
    return f"{len(found) or 'none'}" + (f" {kinds}" if kinds else "")


def _gpu_count(node: ExaminedNode, examination: Examination) -> Iterator[Verdict]:
    given = _given(node.report, "SLURM_GPUS_ON_NODE") if node.report is not None else None
    wanted, who = examination.gpus_expected, "--gpus-per-node says"
    if wanted is None:
        wanted, who = given, "Slurm granted"
    has = len(node.inventory.gpus)
    if wanted is not None and has < wanted:
        is_slurms = given is not None and given < wanted
        fix = (
            "ask Slurm for them: --gres=gpu:N or --gpus-per-node=N"
            if is_slurms or (examination.slurm is not None and given is None)
            else "run nvidia-smi there to see which is missing; leave the node out: sbatch --exclude"
        )
        yield fail(node.name, f"has {counted(has, 'GPU')}, {who} {wanted}", fix)
    elif wanted is None:
        most = max(len(other.inventory.gpus) for other in examination.nodes)
        if has < most:
            yield warn(
                node.name,
                f"has {counted(has, 'GPU')}, others have {most}",
                "run nvidia-smi there to see which is missing",
            )


def _in_use(node: str, gpu: Gpu) -> Verdict:
    users = names(
        [f"{user.pid} {user.program} ({user.owner})" if user.program else f"{user.pid}" for user in gpu.users]
    )
    text = f"GPU {gpu.index}: {size(gpu.used_bytes)} of {size(gpu.memory_bytes)} in use by {users or 'unknown processes'}"
    return warn(node, text, "end that process, or request exclusive nodes (--exclusive)")


def _gpu_health(node: ExaminedNode) -> Iterator[Verdict]:
    for gpu in node.report.gpu_health if node.report is not None else ():
        if gpu.has_remap_failed:
            text = f"GPU {gpu.index}: its memory has no spare rows left"
            yield fail(node.name, text, "the GPU must be replaced; leave the node out: sbatch --exclude")
        if gpu.is_remap_pending:
            text = f"GPU {gpu.index}: bad memory rows are replaced at its next reset only"
            yield warn(node.name, text, "ask the administrators for a reset (nvidia-smi --gpu-reset)")
        if gpu.uncorrected_errors:
            text = f"GPU {gpu.index}: {gpu.uncorrected_errors} uncorrected memory errors since its driver was loaded"
            yield warn(
                node.name,
                text,
                "programs on it may have failed because of them: ask the administrators to check it",
            )


# ---------------------------------------------------------------- limits


def limit_topic(examination: Examination) -> Topic:
    """Judge the limits of tasks, setrlimit(2)."""
    verdicts: list[Verdict] = []
    summaries: list[str] = []
    for node, report in reported(examination):
        limits = {limit.name: (limit.soft, limit.hard) for limit in report.limits}
        soft, hard = limits.get("nofile", (None, None))
        if _below(soft, LEAST_OPEN_FILES) or _below(hard, LEAST_OPEN_FILES_HARD):
            more = "" if soft == hard else f", {_count(hard)} if they raise it"
            text = f"tasks may open {_count(soft)} files{more}"
            verdicts.append(
                warn(
                    node.name,
                    text,
                    "ulimit -n 65536 before sflow-ctl; only administrators raise a hard limit",
                )
            )
        processes, _ = limits.get("nproc", (None, None))
        if _below(processes, LEAST_PROCESSES):
            text = f"this user may have {_count(processes)} processes and threads"
            verdicts.append(
                warn(node.name, text, "ulimit -u 65536 before sflow-ctl, or ask the administrators")
            )
        locked, _ = limits.get("memlock", (None, None))
        if locked is not None and report.has_infiniband:
            text = f"programs may lock {size(locked)} of memory: too little for RDMA over InfiniBand"
            fix = "ulimit -l unlimited before sflow-ctl; in a job LimitMEMLOCK=infinity of slurmd"
            verdicts.append(warn(node.name, text, fix))
        for name, what in (("fsize", "files"), ("as", "address space")):
            value, _ = limits.get(name, (None, None))
            if value is not None:
                text = f"{what} of programs may not grow beyond {size(value)}"
                verdicts.append(
                    warn(
                        node.name,
                        text,
                        f"ulimit -{'f' if name == 'fsize' else 'v'} unlimited before sflow-ctl",
                    )
                )
        for name, (value, most) in limits.items():
            verdicts.append(ok(node.name, f"{name}: {_count(value)}, at most {_count(most)}"))
        summaries.append(f"{_count(soft)} open files (at most {_count(hard)}), {_count(processes)} processes")
    return topic("limits", span(summaries), verdicts)


def _below(limit: int | None, least: int) -> bool:
    return limit is not None and limit < least


def _count(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)


# ---------------------------------------------------------------- directories


def directory_topic(examination: Examination) -> Topic:
    """Judge whether runs can write where they must, and whether all nodes share that place."""
    verdicts: list[Verdict] = []
    elsewhere = [node.name for node in examination.nodes if not node.shares_run_directory]
    for name in elsewhere:
        text = f"{examination.output_dir} is not this host's: logs are sent, files that tasks write there stay on the node"
        verdicts.append(warn(name, text, "choose an --output-dir on a file system that all nodes share"))
    for node, report in reported(examination):
        for place in report.directories:
            verdicts += _directory(node, place)
    shared = "not shared by all" if elsewhere else "shared" if examination.slurm is not None else "writable"
    return topic("directories", f"{examination.output_dir} {shared}{_room(reported(examination))}", verdicts)


def _room(nodes: Reported) -> str:
    places = [
        place for _, report in nodes for place in report.directories if place.role == "output directory"
    ]
    if not places:
        return ""
    least = min(place.free_bytes for place in places)
    slowest = max((place.write_s or 0.0 for place in places), default=0.0)
    kinds = span(place.file_system for place in places)
    return f" ({kinds}), {size(least)} free, 1 MiB written in {seconds(slowest)}"


def _directory(node: ExaminedNode, place: Directory) -> Iterator[Verdict]:
    what = f"{place.role} {place.path}"
    if place.problem:
        if place.role != "output directory":
            judge, fix = _FIXES[place.role]
            yield judge(node.name, f"{what}: {place.problem}", fix)
        elif node.shares_run_directory:  # else logs are sent, which is reported above
            yield fail(node.name, f"{what}: {place.problem}", "choose another with --output-dir")
        return
    yield from _fullness(node, place, what)
    if place.write_s is not None and place.write_s > SLOW_WRITE_S:
        text = f"{what}: it took {seconds(place.write_s)} to write 1 MiB"
        yield warn(
            node.name, text, "is the file system overloaded? Choose another --output-dir, or --log-spool"
        )
    files = f", {place.free_files} files" if place.total_files else ""
    yield ok(
        node.name, f"{what}: {place.file_system or 'a file system'}, {size(place.free_bytes)} free{files}"
    )


def _fullness(node: ExaminedNode, place: Directory, what: str) -> Iterator[Verdict]:
    if place.role == "shared memory":
        if place.total_bytes < LEAST_SHARED_MEMORY:
            text = f"{what} has {size(place.total_bytes)}: too little for NCCL and data loaders"
            yield warn(node.name, text, "give the container more: --shm-size=16g or --ipc=host")
        elif place.free_bytes < place.total_bytes * (1 - NEARLY_FULL):
            text = f"{what}: {size(place.free_bytes)} of {size(place.total_bytes)} free"
            yield warn(node.name, text, "an earlier job has left files there: remove them (ls /dev/shm)")
        return
    if place.free_bytes < LEAST_FREE_BYTES:
        yield warn(
            node.name,
            f"{what}: {size(place.free_bytes)} free",
            "free some space, or choose another directory",
        )
    if place.total_files and place.free_files < LEAST_FREE_FILES:
        yield warn(
            node.name,
            f"{what}: only {place.free_files} more files fit",
            "remove files, or choose another directory",
        )
    if place.quota is not None:
        quota = place.quota
        for used, limit, text in (
            (quota.kib, quota.kib_limit, f"{size(quota.kib * 1024)} of {size(quota.kib_limit * 1024)}"),
            (quota.files, quota.files_limit, f"{quota.files} of {quota.files_limit} files"),
        ):
            if limit and used >= limit:
                yield fail(
                    node.name,
                    f"{what}: your quota is used up ({text})",
                    "remove files, or choose another directory",
                )
            elif limit and used >= limit * NEARLY_FULL:
                yield warn(node.name, f"{what}: your quota is nearly used up ({text})", "remove files")


# ---------------------------------------------------------------- containers, what is left over


def container_topic(examination: Examination) -> Topic:
    """Judge which container engines there are, and whether they work."""
    verdicts: list[Verdict] = []
    everywhere = [{engine.name for engine in report.engines} for _, report in reported(examination)]
    some = set().union(*everywhere)
    for node, report in reported(examination):
        works = any(not engine.problem for engine in report.engines)
        for engine in report.engines:
            if not engine.problem:
                verdicts.append(ok(node.name, f"{engine.name} {engine.version} ({engine.path})"))
                continue
            text = f"{engine.name} cannot be used: {engine.problem}"
            fix = (
                "start its service, or have this user added to the group docker"
                if engine.name == "docker"
                else f"run `{engine.name} info` there for details"
            )
            # Where another engine works this one is not needed: clients are often installed without their
            # services.
            verdicts.append(ok(node.name, text) if works else warn(node.name, text, fix))
        verdicts += [
            warn(
                node.name,
                f"{name} is not installed, but other nodes have it",
                "name another engine in operators",
            )
            for name in sorted(some - {engine.name for engine in report.engines})
        ]
    usable = {
        engine.name for _, report in reported(examination) for engine in report.engines if not engine.problem
    }
    pyxis = ["Pyxis"] if examination.slurm is not None and examination.slurm.has_pyxis else []
    summary = ", ".join([*sorted(usable), *pyxis]) or "no engine: only tasks in containers need one"
    return topic("containers", summary, verdicts)


def leftover_topic(examination: Examination) -> Topic:
    """Judge processes and logs of earlier runs."""
    verdicts: list[Verdict] = []
    live: set[str] = set()
    for node, report in reported(examination):
        for left in report.leftovers:
            if left.has_agent:
                live.add(left.run)
                text = f"{_left_things(left)} of run {_run_id(left.run)}, which is live"
                verdicts.append(ok(node.name, text))
                continue
            whose = f"run {_run_id(left.run)}" if left.run else "a run that their environment does not name"
            text = f"{_left_things(left)} of {whose} are left without an agent"
            verdicts.append(warn(node.name, text, _remedy(left)))
        for spool in report.spools:
            if not spool.size_bytes:  # its agent was killed before any task wrote
                continue
            text = f"{spool.path} has logs of run {_run_id(spool.run)} that did not reach its run directory"
            verdicts.append(warn(node.name, text, f"resume the run to have them, or rm -r {spool.path}"))
    others = f", beside {counted(len(live), 'live run')} of yours" if live else ""
    return topic("leftovers", f"no processes or logs of earlier runs{others}", verdicts)


def _run_id(marker: str) -> str:
    return marker[:-_RANDOM_CHARACTERS] or marker


def _left_things(left: Leftover) -> str:
    counts = ((len(left.pids), "process"), (len(left.containers), "container"))
    return " and ".join(counted(count, what) for count, what in counts if count)


def _remedy(left: Leftover) -> str:
    """Return the commands that end what is left, of the first 20 of each kind."""
    commands = []
    if left.pids:
        pids = " ".join(map(str, left.pids[:20])) + (" ..." if len(left.pids) > 20 else "")
        commands.append(f"kill {pids}")
    for engine in sorted({one.partition(" ")[0] for one in left.containers}):
        names = [one.partition(" ")[2] for one in left.containers if one.startswith(f"{engine} ")]
        commands.append(f"{engine} rm -f {' '.join(names[:20])}")
    return "; ".join(commands)

"""Makes the command lines of container engines: one function for each. Pure.

Docker and Podman run the task outside of the process tree that the agent ends, so they also get a cleanup: a
command that removes everything under the container's name, and fails if something is left.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from protocol.messages.rank_spec import Container
from protocol.text.lazy_pattern import lazy_pattern

ENGINES = ("apptainer", "enroot", "podman", "docker")
"""In the order in which `auto` looks for them: those that need no privileges and no service first."""
RUN_LABEL = "sflow.run"
MARKER_LABEL = "sflow.marker"
"""Has the marker of one controller's run, by which containers are found that an agent has left."""
USER_LABEL = "sflow.user"
"""Has the number of the user: Docker shows those of all users."""
NVIDIA = "NVIDIA_VISIBLE_DEVICES"
_ASKS_FOR_GPUS = ("--gpus", "/gpu=", "/dev/nvidia", NVIDIA)
"""Parts of options that ask an engine for GPUs."""
_NOT_IN_NAMES = lazy_pattern(r"[^a-zA-Z0-9_.-]")

INIT = """set -m
exec 2>/dev/null
"$@" 2>&1 &
child=$!
trap 'is_stopping=1; trap "" TERM INT; kill -TERM -- -$child' TERM INT
wait $child; status=$?
while [ "$is_stopping" ]; do is_stopping=; wait $child; status=$?; done
exit $status"""
"""The container's first process.

Without it that would be the script's, and the kernel keeps every unhandled signal from a first process:
`sleep` could not be stopped. Both streams are one, as engines do not keep the order of two, and the shell's
own remarks about the end of a job are discarded.
"""
_REMOVE = """name=$1; shift
"$@" kill "$name" >/dev/null 2>&1
for _ in 1 2 3; do
    "$@" rm -f -v "$name" >/dev/null 2>&1
    left=$("$@" ps -aq --filter "name=^$name$") && [ -z "$left" ] && exit 0
done
exit 1"""
"""Kills first: Podman's `rm -f` waits 10 s for a container that ignores SIGTERM.

Where a container's monitor was killed, Podman 4.3 only takes note of its end when it is first asked to remove it.
"""
_ENROOT = """name=$1 image=$2 import=$3; shift 3
if [ "$import" ]; then
    enroot import --output "$import" "$image" || exit 125
    image=$import
fi
enroot create --name "$name" "$image" || exit 125
[ -z "$import" ] || rm -f "$import"
exec enroot start "$@\""""
_ENROOT_REMOVE = """rm -f "$2"
enroot remove -f "$1" >/dev/null 2>&1
names=$(enroot list) && ! grep -qxF -- "$1" <<< "$names\""""


class Inside(Struct, frozen=True):
    """The contents of the container: the task's command and the facts of the node."""

    argv: tuple[str, ...]
    name: str
    """The name of the container; no two attempts share it."""
    run_id: str
    marker: str
    """The run's own, as its processes have it in their environment."""
    variables: Mapping[str, str]
    """The task's environment."""
    always: tuple[str, ...]
    """Variables that are passed regardless of `pass_envs`."""
    gpus: tuple[str, ...]
    """The task's GPUs by their UUIDs, or numbers; empty without GPUs, or without ones that an engine can be asked for."""
    count: int
    """How many GPUs it is given, simulated ones too; 0 where an engine cannot be asked: options of the user's may choose."""
    home: str | None
    user: tuple[int, int]
    """The numbers of the agent's user and group."""
    scratch: str
    """A directory for images that have to be converted."""


class EngineCommand(Struct, frozen=True):
    """The commands that start a container, and that remove everything of it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Variables for the engine's own process, in addition to the task's environment."""
    cleanup: tuple[str, ...] | None
    """Run once the engine's process is gone; succeeds if nothing is left.

    None: everything is in the process tree.
    """


def candidates(engine: str, is_elsewhere: bool = False) -> tuple[str, ...]:
    """Return the programs to look for, best first; with `is_elsewhere` those that can use another machine's service."""
    if engine != "auto":
        return (engine,)
    return ("docker", "podman") if is_elsewhere else ENGINES


def client(program: str, docker_host: str | None, context: str | None) -> tuple[str, ...]:
    """Return the beginning of Docker's or Podman's commands for a service, that of this machine without both names.

    Source: `docker --help`, `podman --help`, global options.
    """
    if docker_host is not None:
        return (program, "--host" if program == "docker" else "--url", docker_host)
    if context is not None:
        return (program, "--context" if program == "docker" else "--connection", context)
    return (program,)


def container_name(marker: str, rank: str) -> str:
    """Return the name of a rank's container: `marker` is the run's own, `rank` names task, attempt and rank.

    Source: Docker's and Podman's rule for names, [a-zA-Z0-9][a-zA-Z0-9_.-]*.
    """
    return f"sflow-{_in_name(marker)}-{_in_name(rank)}"


def _in_name(text: str) -> str:
    """Return the text with other characters replaced by their number, so that two names stay different."""
    return _NOT_IN_NAMES.sub(lambda found: f".{ord(found[0]):x}.", text)


def engine_command(engine: str, container: Container, inside: Inside) -> EngineCommand:
    """Return the command lines of an engine of `ENGINES`."""
    return _COMMANDS[engine](container, inside)


# ---------------------------------------------------------------- docker and podman


def _docker(container: Container, inside: Inside) -> EngineCommand:
    gpus: list[str] = []
    if container.gpus is not None:
        gpus = ["--gpus", container.gpus]
    elif inside.gpus:
        gpus = [
            "--gpus",
            f'"device={",".join(inside.gpus)}"',
        ]  # the quotes are Docker's: commas separate options
    user: tuple[str, ...] = ()
    if container.remaps_root is not None:
        user = ("--user", "0:0" if container.remaps_root else f"{inside.user[0]}:{inside.user[1]}")
    return _docker_like("docker", container, inside, gpus, user)


def _podman(container: Container, inside: Inside) -> EngineCommand:
    wanted = container.gpus.split(",") if container.gpus is not None else inside.gpus
    gpus = [part for gpu in wanted for part in ("--device", f"nvidia.com/gpu={gpu}")]
    user: tuple[str, ...] = ()
    if container.remaps_root:
        user = ("--user", "0:0")
    elif container.remaps_root is False:
        user = ("--user", f"{inside.user[0]}:{inside.user[1]}")
        if inside.user[0] != 0:
            user = (*user, "--userns", "keep-id")
    return _docker_like("podman", container, inside, gpus, user)


def _docker_like(
    program: str, container: Container, inside: Inside, gpus: Sequence[str], user: Sequence[str]
) -> EngineCommand:
    service = client(program, container.docker_host, container.context)
    # Not with Docker: a client of Podman's service would then end with status 0, whatever the task's is (Docker 28.2,
    # Podman 4.3). The cleanup removes the container.
    removes_itself = ["--rm"] if program == "podman" else []
    argv = [*service, "run", *removes_itself, "--name", inside.name]
    argv += ["--label", f"{RUN_LABEL}={inside.run_id}"]
    argv += ["--label", f"{MARKER_LABEL}={inside.marker}", "--label", f"{USER_LABEL}={inside.user[0]}"]
    argv += ["--log-driver", "none"]  # the rank's log has the output; engines would keep a second copy
    argv += gpus or _without_gpus(container, inside)
    if container.workdir is not None:
        argv += ["-w", container.workdir]
    for mount in (*container.mounts, *(f"{path}:{path}:rw" for path in container.directories)):
        argv += ["-v", mount]
    if container.mounts_home and inside.home:
        argv += ["-v", f"{inside.home}:{inside.home}:rw", "-e", f"HOME={inside.home}"]
    argv += user
    if container.network is not None:
        argv += ["--network", container.network]
    if container.is_writable is False:
        argv.append("--read-only")
    for name, renamed in _variables(container, inside, is_renumbered=container.gpus is None).items():
        argv += ["-e", name if renamed is None else f"{name}={renamed}"]
    image = container.image.removeprefix("docker://")  # the spelling of artifacts and of the other engines
    argv += [*container.extra_args, image, "bash", "-c", INIT, "sflow-init", *inside.argv]
    return EngineCommand(tuple(argv), {}, ("bash", "-c", _REMOVE, "sflow", inside.name, *service))


def _without_gpus(container: Container, inside: Inside) -> list[str]:
    """Return the variable that hides all GPUs, which images may ask for; nothing where the user asks for some."""
    given = container.pass_envs and NVIDIA in inside.variables
    if given or any(
        NVIDIA in word or "gpu" in word or "/dev/nvidia" in word for word in container.extra_args
    ):
        return []
    return ["-e", f"{NVIDIA}=void"]


def _variables(container: Container, inside: Inside, is_renumbered: bool) -> dict[str, str | None]:
    """Return the names of variables to pass; with a value where it differs from outside.

    A container that is given some GPUs counts them from 0, simulated ones too; instances of partitioned ones (MIG) keep
    their names.
    """
    names: dict[str, str | None] = dict.fromkeys(inside.always)
    if container.pass_envs:
        names.update(dict.fromkeys(inside.variables))
        if is_renumbered and inside.count and not any(gpu.startswith("MIG-") for gpu in inside.gpus):
            names["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(inside.count)))
    return names


# ---------------------------------------------------------------- apptainer and enroot


def _apptainer(container: Container, inside: Inside) -> EngineCommand:
    """Return its command. Its processes are below the agent: no name, no cleanup, and signals reach them.

    Source: `apptainer exec --help`.
    """
    argv = ["apptainer", "exec", "--cleanenv"]
    if container.gpus is not None or inside.gpus:
        argv.append("--nv")
    if container.mounts_home is False:
        argv.append("--no-home")
    if container.is_writable:
        argv.append("--writable-tmpfs")
    if container.remaps_root:
        argv.append("--fakeroot")
    if container.network not in (None, "host"):
        argv += ["--net", "--network", str(container.network)]
    if container.workdir is not None:
        argv += ["--pwd", container.workdir]
    for mount in (*container.mounts, *(f"{path}:{path}:rw" for path in container.directories)):
        argv += ["--bind", mount]
    image = container.image
    if "://" not in image and not _is_file(image, (".sif", ".simg", ".img", ".sqsh")):
        image = f"docker://{image.replace('#', '/')}"
    names = _variables(container, inside, is_renumbered=False)
    env = {f"APPTAINERENV_{name}": inside.variables[name] for name in names}
    return EngineCommand((*argv, *container.extra_args, image, *inside.argv), env, None)


def _enroot(container: Container, inside: Inside) -> EngineCommand:
    """Return its command: unpack the image under the container's name, as a job step with containers does, and start it.

    Source: enroot(1), commands import, create, start, remove.
    """
    image, unpacked = container.image, ""
    if not _is_file(image, (".sqsh", ".sqfs", ".squashfs")):
        unpacked = f"{inside.scratch}/{inside.name}.sqsh"
        image = image if "://" in image else f"docker://{_enroot_reference(image)}"
    argv = []
    if container.is_writable:
        argv.append("--rw")
    if container.remaps_root:
        argv.append("--root")
    for mount in (*container.mounts, *(f"{path}:{path}:rw" for path in container.directories)):
        argv += ["--mount", _as_fstab(mount)]
    names = _variables(container, inside, is_renumbered=container.gpus is None)
    visible = container.gpus if container.gpus is not None else ",".join(inside.gpus)
    if visible:
        argv += ["--env", f"NVIDIA_VISIBLE_DEVICES={visible}"]
    for name, renamed in names.items():
        argv += ["--env", name if renamed is None else f"{name}={renamed}"]
    command = inside.argv
    if container.workdir is not None:
        command = ("bash", "-c", 'cd "$1" && shift && exec "$@"', "sflow", container.workdir, *command)
    start = (*argv, *container.extra_args, inside.name, *command)
    return EngineCommand(
        ("bash", "-c", _ENROOT, "sflow", inside.name, image, unpacked, *start),
        {"ENROOT_MOUNT_HOME": "y"} if container.mounts_home else {},
        ("bash", "-c", _ENROOT_REMOVE, "sflow", inside.name, unpacked),
    )


def _is_file(image: str, endings: tuple[str, ...]) -> bool:
    return image.startswith(("/", "./", "../")) or image.endswith(endings)


def _as_fstab(mount: str) -> str:
    """Return SOURCE:TARGET[:OPTIONS] as enroot expects it: the fields of fstab(5), with colons between them."""
    source, target, *options = mount.split(":", 2)
    return f"{source}:{target}:none:{','.join(['x-create=auto', 'bind', *options])}"


def _enroot_reference(image: str) -> str:
    """`REGISTRY#IMAGE`: a first part with a dot, a port, or localhost is a registry."""
    first, separator, rest = image.partition("/")
    if separator and "#" not in image and ("." in first or ":" in first or first == "localhost"):
        return f"{first}#{rest}"
    return image


_COMMANDS: dict[str, Callable[[Container, Inside], EngineCommand]] = {
    "apptainer": _apptainer,
    "enroot": _enroot,
    "podman": _podman,
    "docker": _docker,
}

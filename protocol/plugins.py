"""What an installed package can add: schemes of artifacts, operators, probes and backends, found by entry points.

The classes are contracts: a plug-in has these methods and need not import anything of ours. An entry point of a group
names an object with them, or a class of such objects, which is called without arguments. Nothing is loaded before a
file asks for it by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

ARTIFACT_SCHEMES = "sflow_ctl.artifact_schemes"
"""Group of entry points; their names are schemes of URIs, in lower case."""
OPERATORS = "sflow_ctl.operators"
PROBES = "sflow_ctl.probes"
BACKENDS = "sflow_ctl.backends"
_QUOTED_CHARACTERS = 400


class TaskFacts(NamedTuple):
    """What a plug-in is given about the replica that it renders something for."""

    name: str
    """Of the replica: `train` or `train[3]`."""
    task: str
    """Of the task in the file."""
    number: int
    """Of the replica, from 0."""
    nodes: tuple[str, ...]
    """Names of its nodes; empty while they are chosen at its start."""
    gpus_per_node: int
    """0 without GPUs."""
    env: Mapping[str, str]
    """The environment that the file gives it."""
    options: Mapping[str, Any]
    """What the file has under `options`, its expressions evaluated."""


@runtime_checkable
class ArtifactScheme(Protocol):
    """Gets and puts what URIs of one scheme name. Runs in a process of its own, which may be killed at any time."""

    def fetch(self, uri: str, dest: str) -> None:
        """Make the file or directory `dest`, which does not exist, with what the URI names; or raise."""

    def exists(self, uri: str) -> bool:
        """Return whether there is something to fetch; or raise if that cannot be found out."""

    def push(self, path: str, uri: str) -> None:
        """Store a file under the URI, in place of what is there; or raise."""


@runtime_checkable
class OperatorRenderer(Protocol):
    """Decides how scripts become processes. Called when a run is planned, once for each replica."""

    def render(self, command: Sequence[str], instance: TaskFacts) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the command that is started in place of `command`, and variables to add to its environment; or raise.

        The last word of `command` is the script. It should be the last word of the result too: then a script with
        secrets is passed in the environment and not on the command line.
        """


@runtime_checkable
class ProbeRenderer(Protocol):
    """Makes a check. Called when a run is planned, once for each replica."""

    def command(self, instance: TaskFacts) -> Sequence[str]:
        """Return the program and its arguments; the check is true while it exits with 0. Or raise."""


class JobRequest(NamedTuple):
    """A job that a backend is to run: the work of one attempt of a task."""

    key: str
    """Of this submission. The same job is never submitted under two keys, and `find` is asked for it after a crash."""
    name: str
    """For people: `train`."""
    command: Sequence[str]
    """What it runs."""
    env: Mapping[str, str]
    """Its environment."""
    directory: str
    """The task's own, where it may put its files; the job's working directory is `cwd`."""
    cwd: str
    output: str
    """The file that the job's output is to be appended to, which the watcher follows."""
    nodes: int
    gpus_per_node: int
    options: Mapping[str, Any]
    """What the file has under the backend's `options`, its expressions evaluated."""


class WorkState(NamedTuple):
    """How far a job is."""

    state: Literal["pending", "running", "ended"]
    exit_code: int | None = None
    """Of one that has ended; None if it has none, which is a failure."""
    text: str = ""
    """For people: "PENDING (Resources)", "it was evicted"."""
    reason: str = ""
    """Why one has ended that was not let end by itself: one of `JOB_REASONS`; empty where that is not known."""


@runtime_checkable
class JobBackend(Protocol):
    """Runs jobs somewhere. Used in the process that watches one job, which may be killed at any time and followed by another.

    An exception of `poll` means that nothing is known at the moment: it is asked again.
    """

    def submit(self, job: JobRequest) -> str:
        """Submit a job and return its id, a short text without blanks; or raise if there is no job."""

    def find(self, key: str, options: Mapping[str, Any]) -> str | None:
        """Return the id of the job with this key if it was submitted; None if it was not; or raise."""

    def poll(self, id: str, options: Mapping[str, Any]) -> WorkState:
        """Return how far a job is; or raise. A job that does not exist any more has ended without an exit code."""

    def cancel(self, id: str, options: Mapping[str, Any]) -> None:
        """End a job, also one that has ended already; or raise."""


CONTRACTS: dict[str, type] = {
    ARTIFACT_SCHEMES: ArtifactScheme,
    OPERATORS: OperatorRenderer,
    PROBES: ProbeRenderer,
    BACKENDS: JobBackend,
}
"""Maps each group to what its objects must have."""


class PluginError(Exception):
    """A plug-in is missing or unusable, or what it was asked to do failed. The text says which, and of which package."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


class FoundPlugin(NamedTuple):
    """A loaded plug-in and where it is from."""

    plugin: Any
    """Fulfils the contract of its group."""
    label: str
    """For messages: `nice of sflow-ctl-example 1.0`."""

    def failed(self, error: BaseException) -> PluginError:
        """Return what to raise for an exception of the plug-in."""
        said = " ".join(str(error).split())[:_QUOTED_CHARACTERS]
        kind = type(error).__name__
        what = f"plug-in {self.label}: {f'{kind}: {said}' if said else kind}"
        return PluginError(what, "the plug-in's own documentation says what it expects")


def find_plugin(group: str, name: str) -> FoundPlugin:
    """Load the plug-in of that name. Raises: PluginError."""
    from importlib.metadata import entry_points  # takes some milliseconds, and most runs have no plug-in

    offered = entry_points(group=group)
    chosen = [one for one in offered if one.name == name]
    kind = group.partition(".")[2].replace("_", " ")
    if not chosen:
        installed = ", ".join(sorted({one.name for one in offered})) or "none"
        hint = f"install the package that has it, into the environment of sflow-ctl; installed: {installed}"
        raise PluginError(f'no installed package has "{name}" among its {kind}', hint)
    owners = sorted({_owner(one) for one in chosen})
    if len({one.value for one in chosen}) > 1:
        what = f'several packages have "{name}" among their {kind}: {", ".join(owners)}'
        raise PluginError(what, "uninstall all but one of them")
    label = f"{name} of {owners[0]}"
    try:
        loaded = chosen[0].load()
        plugin = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:  # the edge to foreign code: whatever it raises is the answer
        raise PluginError(
            f"plug-in {label} cannot be loaded: {type(error).__name__}: {error}", f"reinstall {owners[0]}"
        ) from error
    contract = CONTRACTS[group]
    if not isinstance(plugin, contract):
        methods = [one for one in vars(contract) if not one.startswith("_")]
        missing = ", ".join(one for one in methods if not callable(getattr(plugin, one, None)))
        raise PluginError(
            f"plug-in {label} has no {missing}", "the how-to on plug-ins lists what it must have"
        )
    return FoundPlugin(plugin, label)


def _owner(entry: Any) -> str:
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"

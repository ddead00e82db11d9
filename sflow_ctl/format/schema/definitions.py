"""Named things that a file defines for its tasks: variables, artifacts, environments, failure signatures."""

from typing import Annotated, Any

from sflow_ctl.format.schema.values import ONE, Flag, Part


class Variable(Part, frozen=True, kw_only=True):
    """A named value, for expressions and for the environment of tasks."""

    name: str
    """Name in expressions (`${{ NAME }}`) and in the environment (`$NAME`). In the mapping form the key is the name."""
    value: Any
    """Value, which may contain expressions over other variables. In the mapping form a variable may be its value alone."""
    type: str | None = None
    """Type to convert the value to: `string`, `integer`, `float`, `boolean`, `list` or `dict` (`str`, `int` and `bool` also
    work). Without it, the value keeps the type it has in the file."""
    domain: list[Any] | None = None
    """Values that the variable may take. `replicas.variables` makes one replica per value, for example `[1, 2, 4]`."""
    description: str | None = None
    """Text for readers; it has no effect."""


class Artifact(Part, frozen=True, kw_only=True):
    """A named file, directory or remote object that tasks use through its path."""

    name: str
    """Name in expressions (`${{ artifacts.NAME.path }}`) and in the environment of tasks (`$NAME`)."""
    uri: str
    """Location: `fs://PATH` (must exist), `file://PATH` (may be written), `http://` or `https://` (downloaded once),
    `hf://ORG/NAME` (from the Hugging Face hub), `docker://IMAGE` (pulled). With `fetch: true` also `s3://BUCKET/KEY` and
    the schemes of plug-ins; without it, tasks get such a URI as it is."""
    content: str | None = None
    """Template of the file's content, which is written before the first task starts. Only for `file://`."""
    sha256: str | None = None
    """Expected SHA-256 checksum of a download, 64 hexadecimal digits. Only for `http://` and `https://`, and for files with
    `fetch`."""
    fetch: bool = False
    """Fetch it before the first task starts, by a plug-in of its URI's scheme, for example `s3://BUCKET/KEY`; tasks then find its
    path in place of the URI. Schemes that are fetched anyway have no use for it."""
    create: bool = False
    """Create a missing directory instead of refusing to start. Only for `fs://`."""
    description: str | None = None
    """Text for readers; it has no effect."""


class SourcedFile(Part, frozen=True, kw_only=True):
    """A file that bash reads to set up an environment, with arguments."""

    path: str
    """Path of the file; a relative one is below the working directory of the tasks."""
    args: list[str] = []
    """Arguments that the file finds in `$1`, `$2`, ..."""


class EnvironmentSteps(Part, frozen=True, kw_only=True):
    """What is done on a task's node before its script, in this order: modules, source, conda or venv, env, before.

    A step that fails is the failure `bootstrap` of the task, which is retried only where `retries.reasons` names it.
    """

    modules: Annotated[list[str], ONE] = []
    """Modules to load with `module load`, in order, for example `[cuda/12.4, openmpi]`. An entry may be another command of
    `module`: `purge`, `use DIRECTORY`, `unload NAME`, `swap OLD NEW`, `restore NAME`."""
    source: Annotated[list[str | SourcedFile], ONE] = []
    """Files for bash to read, in order. A status other than 0 is a failure."""
    conda: str | None = None
    """Conda environment to activate, its name or its directory, with the `conda`, `mamba` or `micromamba` of the node."""
    venv: str | None = None
    """Directory of a Python virtual environment to activate."""
    env: dict[str, Any] = {}
    """Variables to set: values may hold expressions, and are taken as they are, without `$NAME` of a shell."""
    before: Annotated[list[str], ONE] = []
    """Lines for bash to run before each attempt, for example `ulimit -s unlimited`. The first one that fails ends the attempt."""
    each_time: Flag = False
    """Load modules, read files and activate anew for each attempt. Default: once on each node for all tasks with the same
    variables, and the others take over the variables and functions that this has exported. `env` and `before` are done
    for each attempt in any case."""


class Environment(EnvironmentSteps, frozen=True, kw_only=True):
    """A named environment for tasks: modules, files to source, a conda or virtual environment, variables, lines for bash."""

    name: str
    """Name that tasks use in `environment:`. In the mapping form the key is the name."""


class Signature(Part, frozen=True, kw_only=True):
    """A pattern for log lines that explain a failure. Signatures of a file are tried before the built-in ones."""

    name: str
    """Name of the signature."""
    pattern: str
    """Python regular expression, searched in each line of a failed task's log."""
    reason: str | None = None
    """Reason word for programs and for `retries.reasons`. Default: the signature's name with `_` for `-`."""
    text: str = "{line}"
    """Sentence for people. It may use the pattern's named groups and `{line}`, for example `"{who} has no license"`."""
    hint: str = ""
    """The remedy, for the user."""


_ARTIFACT_FIELDS: dict[str, tuple[str, ...]] = {"sha256": ("http", "https"), "create": ("fs",), "fetch": ()}
_OWN_SCHEMES = ("fs", "file", "http", "https", "hf", "huggingface", "docker")


def artifact_may_have(field: str, scheme: str, *, is_fetched: bool) -> bool:
    """Return whether artifacts with URIs of this scheme have a field; `is_fetched` is what `fetch` says."""
    scheme = scheme.lower()
    if field == "fetch" or (field == "sha256" and is_fetched):
        return scheme not in _OWN_SCHEMES or scheme in _ARTIFACT_FIELDS[field]
    return scheme in _ARTIFACT_FIELDS[field]


ARTIFACT_FIELDS = tuple(_ARTIFACT_FIELDS)
"""Fields that only artifacts of some URI schemes have."""


def artifact_schemes(field: str) -> str:
    """Return in words which URI schemes have a field."""
    return " and ".join(f"{one}://" for one in _ARTIFACT_FIELDS[field]) or "s3:// and plug-ins'"

"""Renders what plug-ins decide about a replica: the command of its operator, the commands of its probes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from protocol.plugins import ARTIFACT_SCHEMES, OPERATORS, PROBES, FoundPlugin, PluginError, TaskFacts
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.placement.placed import PlacedTask

_Path = tuple[str | int, ...]
FindPlugin = Callable[[str, str], FoundPlugin]
"""Returns the plug-in of a group by its name. Raises: PluginError."""


class PluginRendering(Struct, frozen=True):
    """What plug-ins need to know about one replica, and where they are looked for."""

    find: FindPlugin
    facts: TaskFacts

    def operator(
        self, name: str, options: Mapping[str, Any], command: Sequence[str]
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the command that an operator makes of another, and the variables it adds. Raises: UnplannableError."""
        path: _Path = ("operator",)
        found = self._found(OPERATORS, name, path)
        given = self.facts._replace(options=options)
        try:
            argv, env = found.plugin.render(command, given)
            argv, env = tuple(argv), dict(env)
        except Exception as error:
            raise self._problem(found.failed(error), path) from error
        self._check_words(found, argv, path)
        self._check_words(found, (*env, *env.values()), path)
        return argv, env

    def probe(self, name: str, options: Mapping[str, Any], path: _Path) -> tuple[str, ...]:
        """Return the command of a check. Raises: UnplannableError."""
        found = self._found(PROBES, name, path)
        try:
            argv = tuple(found.plugin.command(self.facts._replace(options=options)))
        except Exception as error:
            raise self._problem(found.failed(error), path) from error
        self._check_words(found, argv, path)
        return argv

    def _found(self, group: str, name: str, path: _Path) -> FoundPlugin:
        try:
            return self.find(group, name)
        except PluginError as error:
            raise self._problem(error, path) from error

    def _check_words(self, found: FoundPlugin, words: Sequence[Any], path: _Path) -> None:
        """Refuse what is not a list of texts: a process cannot be started with it."""
        wrong = [word for word in words if not isinstance(word, str) or "\0" in word]
        if wrong or (words and not words[0]) or not (words or path == ("operator",)):
            what = f"plug-in {found.label}: its command has to be texts, and the first not empty: {list(words)!r}"
            raise self._problem(PluginError(what[:500], "the package has to be corrected"), path)

    def _problem(self, error: PluginError, path: _Path) -> UnplannableError:
        return UnplannableError("plugin", f'task "{self.facts.task}": {error}', error.hint, path)


def rendering_of(
    context: PlanContext, placed: PlacedTask, nodes: Sequence[PlannedNode], env: Mapping[str, str]
) -> PluginRendering:
    """Return what plug-ins need to know about a replica; `nodes` are empty while its placement is flexible."""
    where, replica = placed.placement, placed.replica
    gpus = where.gpus_per_node if where.is_flexible else len(where.gpus)
    names = tuple(node.name for node in nodes)
    facts = TaskFacts(replica.name, placed.task.name, replica.index, names, gpus, env, {})
    return PluginRendering(context.find_plugin, facts)


def check_scheme(find: FindPlugin, uri: str, whose: str) -> None:
    """Refuse a URI whose scheme no installed plug-in has. Raises: UnplannableError."""
    scheme, separator, rest = uri.partition("://")
    if not (scheme and separator and rest):
        what = f'"{uri}" of {whose} is not a URI with a scheme and a path'
        raise UnplannableError("wrong-value", what, "e.g. vault://team/results", ("uri",))
    try:
        find(ARTIFACT_SCHEMES, scheme.lower())
    except PluginError as error:
        raise UnplannableError("plugin", f"{whose}: {error}", error.hint, ("uri",)) from error

"""Starts ranks through the bash that sets up their environment, and keeps what ranks of this node share of it.

That is in files which have only a descriptor, no name: no other user can read them, and nothing is left of them when the agent
is gone. Imported for the first rank that has an environment.
"""

import os
from collections.abc import Sequence

import msgspec

from protocol.bootstrap import CONSTANT, OWN, READER, SCRIPT, STATUS, Steps, bash_text, failure_in
from protocol.messages.facts import ExitCause
from protocol.messages.rank_spec import Bootstrap, RankSpec
from sflow_agent.core.exit_cause import SHOWN_CHARACTERS
from sflow_agent.core.log_reading import LogExcerpt

MOST_SHARED = 64
"""Environments that a node keeps, each with two descriptors; tasks with further ones set up their own each time."""
_POSITIONS = ("SFLOW_", "PET_")
"""Beginnings of the names of variables that differ between ranks."""
_BASH = ("bash", "--noprofile", "--norc", "-c", READER, "sflow-environment")
_Key = tuple[str, frozenset[tuple[str, str]]]


class Environments:
    """What ranks of this node share of their environments."""

    def __init__(self) -> None:
        self._kept: dict[_Key, tuple[int, int]] = {}

    def prepare(self, spec: RankSpec, bootstrap: Bootstrap) -> tuple[RankSpec, tuple[int, ...]]:
        """Return the rank as a bash that sets up its environment first, and the files that it shares with others."""
        steps = Steps(bootstrap.name, bootstrap.shared, f"{bootstrap.variables}{bootstrap.before}")
        is_here = spec.launch_kind == "process" and spec.container is None
        files = (
            ()
            if bootstrap.is_each_time or not (bootstrap.shared and is_here)
            else self._files(spec, bootstrap)
        )
        text = bash_text(steps, bootstrap.hidden, is_shared=bool(files))
        argv = spec.argv if bootstrap.is_inside else (*_BASH, *spec.argv)
        return msgspec.structs.replace(spec, argv=argv, env={**spec.env, SCRIPT: text}), files

    def prepare_check(
        self, spec: RankSpec, bootstrap: Bootstrap, argv: tuple[str, ...]
    ) -> tuple[RankSpec, tuple[str, ...], tuple[int, ...]]:
        """Return what a program beside a rank needs to have its environment, without `before`: variables, command line, files.

        It runs on this node, so it gets nothing of the environment of a container or another machine.
        """
        if spec.container is not None or spec.launch_kind == "ssh":
            return spec, argv, ()
        files = self._files(spec, bootstrap) if bootstrap.shared else ()
        steps = Steps(bootstrap.name, bootstrap.shared, bootstrap.variables)
        text = bash_text(steps, bootstrap.hidden, is_shared=bool(files))
        return msgspec.structs.replace(spec, env={**spec.env, SCRIPT: text}), (*_BASH, *argv), files

    def _files(self, spec: RankSpec, bootstrap: Bootstrap) -> tuple[int, ...]:
        """Return the two files of an environment, the same for ranks that would set it up in the same way."""
        unseen = {*OWN, *bootstrap.hidden}
        seen = (
            (name, value)
            for name, value in spec.env.items()
            if name in CONSTANT or not (name in unseen or name.startswith(_POSITIONS))
        )
        key = (bootstrap.shared, frozenset(seen))
        if key not in self._kept:
            if len(self._kept) >= MOST_SHARED:
                return ()
            self._kept[key] = (
                os.memfd_create("sflow-environment"),
                os.memfd_create("sflow-environment-output"),
            )
        return self._kept[key]


def bootstrap_cause(bootstrap: Bootstrap, exit_code: int, pieces: Sequence[LogExcerpt]) -> ExitCause | None:
    """Return the cause of a rank that ended before its command began; None if that was not it. `pieces` begin with the end."""
    if exit_code != STATUS or not pieces:
        return None
    end = pieces[0]
    found = failure_in(end.text())
    if found is None:
        return None
    text = f'environment "{bootstrap.name}" could not be set up: `{found.line}` failed with status {found.status}'
    if found.output:
        text += f": {found.output[:SHOWN_CHARACTERS]}"
    hint = "the script did not begin; try the line on that node, and correct it in the environment"
    return ExitCause(
        word="bootstrap", text=text, hint=hint, line=found.line, offset=end.start_of(found.number)
    )

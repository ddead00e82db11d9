"""Finds and removes containers of Docker and Podman by the label with their run's marker.

Their processes may be below a daemon, of another user, or without the marker. Called for runs whose agents are gone, and
by the doctor.
"""

import os
import shutil
from collections.abc import Collection, Sequence

from protocol.text.lazy_pattern import lazy_pattern
from sflow_agent.processes.captured import run_captured
from sflow_agent.processes.engines import USER_LABEL, client

ENGINES = ("podman", "docker")
_MARKER = lazy_pattern(r"\bsflow\.marker[=:]([^,\s\]]+)")
"""Docker prints labels as `a=b,c=d`, Podman 4.3 as `map[a:b c:d]`."""
ANSWER_WITHIN_S = 8.0
TRIES = 3
"""Where a container's monitor was killed, Podman 4.3 only takes note of its end when it is first asked to remove it."""


def labelled_containers(service: Sequence[str]) -> list[tuple[str, str]]:
    """Return (marker, name) of this user's containers of any run. Raises: OSError if the engine does not answer.

    `service` is the beginning of the engine's commands.

    Source: `docker ps` and `podman ps`, --filter and --format.
    """
    question = (*service, "ps", "-a", "--filter", f"label={USER_LABEL}={os.getuid()}")
    said, _ = run_captured((*question, "--format", "{{.Names}} {{.Labels}}"), ANSWER_WITHIN_S)
    found = ((line.split(" ", 1)[0], _MARKER.search(line)) for line in said.splitlines())
    return [(marker[1], name) for name, marker in found if marker is not None]


def remove_containers(
    markers: Collection[str], docker_host: str | None = None, context: str | None = None
) -> list[str]:
    """Remove the containers of these runs; return "ENGINE container NAME" of what is left.

    Those of this machine, or of the service that `docker_host` or `context` names.
    """
    left: list[str] = []
    for engine in ENGINES:
        if shutil.which(engine) is not None:
            left += _removed(client(engine, docker_host, context), set(markers))
    return left


def _removed(service: Sequence[str], markers: set[str]) -> list[str]:
    names = _names(service, markers)
    if not names:
        return []
    verbs = ("kill",), *[("rm", "-f", "-v")] * TRIES
    for verb in verbs:
        try:
            run_captured((*service, *verb, *names), ANSWER_WITHIN_S)
        except OSError:
            break
        if verb[0] == "rm" and not (names := _names(service, markers)):
            return []
    return [f"{service[0]} container {name}" for name in _names(service, markers)]


def _names(service: Sequence[str], markers: set[str]) -> Sequence[str]:
    try:
        return [name for marker, name in labelled_containers(service) if marker in markers]
    except OSError:
        return []

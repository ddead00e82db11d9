"""What one task is, or was, started with, for `explain --script`: command line, environment, script, place and ports. Pure.

Read by `runtime/viewing/started.py`. Values of secrets are masked by the caller.
"""

import shlex

import msgspec


class StartedOn(msgspec.Struct, frozen=True, kw_only=True):
    """A node of an attempt."""

    node: str
    """Its name."""
    ports: dict[str, tuple[int, ...]]
    """The ports that it leased to the task, by the names of their blocks."""


class StartedWith(msgspec.Struct, frozen=True, kw_only=True):
    """What a task is started with."""

    attempt: int
    """The last attempt; 0 before the first: the rest is as it is planned then."""
    nodes: tuple[StartedOn, ...]
    """Where the attempt runs or ran, the node of its first process first."""
    gpus: tuple[int, ...]
    """Its GPUs on each of these nodes."""
    processes: int
    """How many processes it has. The environment is that of the first one."""
    operator: str
    """What starts it."""
    argv: tuple[str, ...]
    """The command line, without the options of a container engine."""
    image: str | None
    """The image of the container in which it runs; null is the node itself."""
    cwd: str | None
    """The working directory; null is that of the controller."""
    env: dict[str, str]
    """The variables that are set for it, in addition to those of the agent."""
    script: str
    """The script, with values in place of expressions."""
    log: str
    """The path of the newest log."""
    notes: tuple[str, ...]
    """What of it is not known, and why."""


def started_lines(one: StartedWith) -> list[str]:
    """Return what a person reads of it, to be indented below the task's headline."""
    lines = [
        f"attempt {one.attempt}, as it was started:" if one.attempt else "not started; as it is planned:"
    ]
    facts = [("on", _places(one)), ("operator", one.operator)]
    if one.image is not None:
        facts.append(("image", one.image))
    facts += [
        ("command", shlex.join(_without_script(one.argv, one.script))),
        ("directory", one.cwd or ""),
        ("log", one.log),
    ]
    lines += [f"  {f'{name}:':<10} {text}" for name, text in facts if text]
    lines += [f"  note:      {note}" for note in one.notes]
    of_first = f" of the first of {one.processes} processes" if one.processes > 1 else ""
    lines.append(f"  environment{of_first}:")
    lines += [f"    {name}={shlex.quote(value)}" for name, value in sorted(one.env.items())]
    if one.script:
        lines.append("  script:")
        lines += [f"    {line}" for line in one.script.splitlines()]
    return lines


def _places(one: StartedWith) -> str:
    gpus = (
        f" with {'GPU' if len(one.gpus) == 1 else 'GPUs'} {', '.join(map(str, one.gpus))}" if one.gpus else ""
    )
    ports = [
        f"{name} {', '.join(map(str, numbers))}" + (f" on {place.node}" if len(one.nodes) > 1 else "")
        for place in one.nodes
        for name, numbers in place.ports.items()
    ]
    leased = f"; ports: {'; '.join(ports)}" if ports else ""
    return f"{', '.join(place.node for place in one.nodes)}{gpus}{leased}"


def _without_script(argv: tuple[str, ...], script: str) -> list[str]:
    """Return a command line that names the script, which is printed below, in place of its text."""
    return ["SCRIPT" if script and word.strip() == script.strip() else word for word in argv]

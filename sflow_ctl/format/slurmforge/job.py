"""The Slurm job in which all runs of an experiment happen, in place of a job for each. Called for both generations.

A run had its own job of so many nodes and GPUs. Now there is one job with room for several at once, and a time for all of them.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

TO_FILL_IN = "CHANGE_ME"
"""Stands for what must be given: `validate` names the field and says what to write."""
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGTkmgt]?)[Bb]?")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


class Request(Struct, kw_only=True):
    """What one run asked Slurm for."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | None = None
    nodes: int = 1
    gpus_per_node: int = 0
    cpus: int | None = None
    memory: str | None = None
    constraint: str | None = None
    extra: Sequence[str] = ()
    swept: dict[str, str] = {}
    """Fields that cells change, by name: the variable that has the value. The field itself is the largest."""


class Room(Struct):
    """How many runs fit side by side."""

    at_once: int
    waves: int


def room(request: Request, runs: int, gpus: int | None) -> Room:
    """Return how many of `runs` fit into so many GPUs at once; one for None, and for runs without GPUs."""
    each = request.nodes * request.gpus_per_node
    at_once = max(1, min(runs, gpus // each if gpus and each else 1))
    return Room(at_once, math.ceil(runs / at_once))


def backend(request: Request, fits: Room) -> dict[str, Any]:
    """Return the backend of the new file."""
    time = request.time
    seconds = slurm_seconds(time)
    if seconds is not None and fits.waves > 1:
        time = clock(seconds * fits.waves)
    options = [
        *(["--qos=" + request.qos] if request.qos else []),
        *(["--constraint=" + request.constraint] if request.constraint else []),
        *([f"--cpus-per-task={request.cpus}"] if request.cpus else []),
        *(["--mem=" + request.memory] if request.memory else []),
        *request.extra,
    ]
    return {
        "type": "slurm",
        "partition": request.partition or TO_FILL_IN,
        "account": request.account or TO_FILL_IN,
        "time": time or TO_FILL_IN,
        "nodes": request.nodes * fits.at_once,
        "gpus_per_node": request.gpus_per_node,
        **({"extra_args": options} if options else {}),
    }


def resources(request: Request) -> dict[str, Any]:
    """Return what a task needs."""
    swept = request.swept
    nodes = expression(swept["nodes"]) if "nodes" in swept else request.nodes
    gpus: int | str = request.nodes * request.gpus_per_node
    if swept.keys() & {"nodes", "gpus_per_node"}:
        factors = [
            str(swept.get("nodes", request.nodes)),
            str(swept.get("gpus_per_node", request.gpus_per_node)),
        ]
        gpus = expression(" * ".join(one for one in factors if one != "1"))
    cpus = expression(swept["cpus"]) if "cpus" in swept else request.cpus
    memory = request.memory
    has_memory = memory is not None and memory.rstrip("BbKkMmGgTt") not in ("", "0")
    return {
        "nodes": nodes,
        **({"gpus": gpus} if gpus else {}),
        **({"cpus": cpus} if cpus else {}),
        **({"memory": f"{memory}M" if str(memory).isdigit() else memory} if has_memory else {}),
    }


def most(requests: Sequence[Request]) -> Request:
    """Return the request of a job in which each of these fits."""
    first = requests[0]
    longest = max(requests, key=lambda one: slurm_seconds(one.time) or 0)
    memory = max(requests, key=lambda one: _bytes(one.memory))
    total = sum(slurm_seconds(one.time) or 0 for one in requests)
    return Request(
        partition=next((one.partition for one in requests if one.partition), None),
        account=next((one.account for one in requests if one.account), None),
        qos=next((one.qos for one in requests if one.qos), None),
        time=clock(total) if len(requests) > 1 and total else longest.time,
        nodes=max(one.nodes for one in requests),
        gpus_per_node=max(one.gpus_per_node for one in requests),
        cpus=max((one.cpus or 0 for one in requests), default=0) or None,
        memory=memory.memory,
        constraint=next((one.constraint for one in requests if one.constraint), None),
        extra=list(dict.fromkeys(option for one in requests for option in one.extra)),
        swept=first.swept,
    )


def longest(times: Sequence[str]) -> str | None:
    """Return the longest of some time limits."""
    return max(times, key=lambda one: slurm_seconds(one) or 0, default=None)


def _bytes(memory: str | None) -> float:
    match = _MEMORY.fullmatch(memory or "")
    if match is None:
        return 0
    amount = float(match[1]) * 1024.0 ** "KMGT".index((match[2] or "M").upper())
    return amount or math.inf  # 0 is all of the node's


def expression(source: str) -> str:
    """Return an expression as it is written in a file."""
    return f"${{{{ {source} }}}}"


def limit(request: Request) -> str | None:
    """Return the limit of one run as a task's timeout."""
    if "time" in request.swept:
        return expression(request.swept["time"])
    seconds = slurm_seconds(request.time)
    return None if seconds is None else clock(seconds)


def slurm_seconds(time: str | None) -> int | None:
    """Return a time limit of sbatch in seconds: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS. None for others.

    Source: sbatch(1), --time.
    """
    match = _CLOCK.fullmatch((time or "").strip())
    if match is None:
        return None
    days, one, two, three = (None if part is None else int(part) for part in match.groups())
    assert one is not None
    if days is not None:
        return ((days * 24 + one) * 60 + (two or 0)) * 60 + (three or 0)
    if three is not None:
        return (one * 60 + (two or 0)) * 60 + three
    return one * 60 + (two or 0)


def clock(seconds: int) -> str:
    """Return a time as `HH:MM:SS`, with days if there are some."""
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{text}" if days else text

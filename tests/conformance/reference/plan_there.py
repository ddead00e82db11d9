"""Plans workflows with the sflow of the interpreter that runs this, and writes what it planned as one JSON document.

Not imported by ours: `install.py` starts it with the interpreter of another environment. `JOBS` is a JSON file with a mapping
from names to arguments of `sflow`; each is planned in a process of its own, up to where the command line would print it.
"""

import contextlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

_ATTRIBUTES = (
    "port", "host", "on_node", "url", "method", "headers", "body", "pattern", "regex_pattern", "match_pattern", "match_count",
    "delay", "timeout", "each_check_timeout", "interval", "success_threshold", "failure_threshold",
)  # fmt: skip


class _Planned(BaseException):
    """Carries the variables of the planning function out of the command line."""

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__()
        self.names = names


def _plan(argv: list[str]) -> dict[str, Any]:
    """Return the plan of a command line, or the error that it ends with."""
    module = importlib.import_module("sflow.app.sflow")

    def capture(*_args: Any, **_named: Any) -> None:
        raise _Planned(sys._getframe(1).f_locals)  # the plan is a local variable there

    vars(module)["log_dry_run_envelope"] = capture
    try:
        importlib.import_module("sflow.cli").app(argv, standalone_mode=False)
    except _Planned as planned:
        return _facts(planned.names)
    except BaseException as error:  # noqa: BLE001 - whatever it ends with is its answer
        cause = error.__cause__ or error.__context__
        return {"error": f"{type(error).__name__}: {error}" + (f": {cause}" if cause else "")}
    return {"error": "no plan"}


def _facts(names: dict[str, Any]) -> dict[str, Any]:
    graph, backends = names["tg"], names["state"].backends
    index = {
        (name, node.name): position
        for name, backend in backends.items()
        if backend.allocation is not None
        for position, node in enumerate(backend.allocation.nodes)
    }
    tasks = {}
    for task in graph.get_tasks():
        tasks[task.name] = {
            "backend": task.backend_name,
            "nodes": [index.get((task.backend_name, node), node) for node in task.assigned_nodes],
            "gpus": task.cuda_visible_devices,
            "depends_on": sorted(graph.dag.get_dependencies(task.name)),
            "script": "\n".join(task.script),
            "env": dict(task.envs),
            "probes": [_probe(probe) for probe in task.probes],
        }
    addresses = {
        f"{name}[{position}]": [node.name, node.ip_address]
        for name, backend in backends.items()
        if backend.allocation is not None
        for position, node in enumerate(backend.allocation.nodes)
    }
    return {"tasks": tasks, "nodes": addresses}


def _probe(probe: Any) -> dict[str, Any]:
    found = {name: getattr(probe, name) for name in _ATTRIBUTES if hasattr(probe, name)}
    inner = {key.lstrip("_"): value for key, value in vars(probe).items() if key.lstrip("_") in _ATTRIBUTES}
    return {
        "kind": str(getattr(probe.type, "value", probe.type)).lower(),
        "type": type(probe).__name__,
        **inner,
        **found,
    }


def _in_child(argv: list[str], cwd: str) -> dict[str, Any]:
    """Plan in a child process: the command line keeps state in its modules."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        os.close(readable)
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            os.chdir(cwd)
            answer = json.dumps(_plan(argv), default=str)
        with os.fdopen(writable, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"error": "the process has ended"}


def main(jobs: Path, cwd: str, output: Path) -> None:
    """Plan all jobs."""
    importlib.import_module("sflow.app.sflow")
    importlib.import_module("sflow.cli")
    given = json.loads(jobs.read_text())
    output.write_text(json.dumps({name: _in_child(argv, cwd) for name, argv in given.items()}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

"""What people write who come from other tools, and what it is called here. `checking` and `merged.files` put it into hints."""

from collections.abc import Sequence

_WORDS = {
    "script": ("command", "commands", "cmd", "run", "exec", "entrypoint", "shell", "program"),
    "depends_on": ("needs", "after", "requires", "dependencies", "deps", "depend_on", "wait_for"),
    "variables": ("env", "envs", "environment", "vars", "environ", "parameters", "params"),
    "probes": ("healthcheck", "health_check", "readiness", "readiness_probe", "liveness", "probe", "ready"),
    "replicas": ("parallelism", "scale", "instances"),
    "sweep": ("matrix", "grid", "parametrize", "hyperparameters", "search"),
    "axes": ("shared_axes", "grid", "params", "parameters", "values"),
    "max_runs": ("limit", "max", "max_cells", "cap"),
    "max_running": ("max_parallel", "concurrency", "parallel", "max_parallelism", "max_concurrent"),
    "max_parallel": ("concurrency", "max_running", "parallel", "max_parallelism"),
    "retries": ("retry", "max_retries", "attempts", "restarts"),
    "timeout": ("time", "time_limit", "timelimit", "walltime", "deadline", "timeout_minutes"),
    "finally": ("always", "cleanup", "on_exit", "teardown"),
    "resources": ("gpus", "gpu", "nodes", "num_gpus", "n_gpus", "ngpus", "requests", "limits"),
    "memory": ("memory_gb", "target_memory_gb", "mem", "target_mem_per_gpu_gb"),
    "round_to": ("multiple_of",),
    "args": ("arguments", "flags", "run_args"),
    "args_json": ("run_args_json",),
    "environment": ("venv", "conda", "modules", "conda_env", "virtualenv", "module", "bootstrap"),
    "modules": ("module", "module_load"),
    "conda": ("conda_env", "conda_activate", "conda_environment"),
    "venv": ("virtualenv", "venv_activate", "python_env"),
    "before": ("pre", "setup", "pre_script", "prologue"),
    "operator": ("image", "container", "executor", "type", "runtime"),
    "artifacts": ("inputs", "volumes", "datasets", "data"),
    "outputs": ("metrics", "results"),
    "reasons": ("classes", "retry_on", "conditions"),
    "path": ("glob", "globs", "file", "files"),
    "required": ("optional", "must_exist"),
    "from": ("source", "of", "output"),
    "env": ("variable", "environment"),
    "arg": ("flag", "option", "argument"),
    "select": ("checkpoint_policy", "choose", "which"),
    "interval": ("period", "every", "interval_s", "period_seconds"),
    "readiness": ("ready",),
    "failure": ("liveness", "failed", "fail"),
    "http_get": ("http", "url", "httpGet"),
    "tcp_port": ("tcp", "port", "tcpSocket", "tcp_socket"),
    "log_watch": ("log", "pattern", "regex", "stdout"),
    "exec": ("command", "cmd", "script"),
    "match_pattern": ("pattern", "match", "text", "string"),
    "regex_pattern": ("regex", "regexp"),
    "until": ("wait_for", "condition", "when", "status", "state"),
    "count": ("number", "num", "n", "size"),
    "tasks": ("jobs", "steps", "services", "stages"),
    "workflow": ("pipeline", "jobs", "services", "steps"),
    "on_failure": ("fail_fast", "failfast", "strategy", "failure"),
    "uri": ("path", "url", "source", "file"),
    "value": ("default", "val"),
    "domain": ("values", "choices", "options", "enum"),
}
_ELSEWHERE = (
    (
        "gpu_budget",
        "on_node_lost",
        "the cells of a sweep have one: sweep: {gpu_budget: N}; a task asks with resources.gpus",
    ),
    (
        "max_parallel",
        "policy",
        "workflow.max_running limits all tasks; of a list's copies foreach: {max_parallel: N} does",
    ),
)
"""Keys that are elsewhere: the key, a key that tells where it was written, and what to write instead."""
_EXAMPLES = {
    "sweep": "sweep: {axes: {lr: [0.1, 0.01]}}",
    "axes": "axes: {lr: [0.1, 0.01]}",
    "cases": "cases: [{name: small, set: {layers: 12}}]",
    "tcp_port": "tcp_port: {port: 8000}",
    "http_get": 'http_get: {url: "http://127.0.0.1:8000/health"}',
    "log_watch": "log_watch: {match_pattern: READY}",
    "readiness": "readiness: {tcp_port: {port: 8000}}",
    "failure": "failure: {log_watch: {match_pattern: FATAL}}",
    "probes": "probes: {readiness: {tcp_port: {port: 8000}}}",
    "resources": "resources: {gpus: {count: 1}}",
    "files": 'files: {"server.conf": "text", "b.txt": {from: path}}',
    "variables": "variables: {PORT: 8000}",
    "success": "success: {files: [result.json]}",
    "stop": "stop: {signal: SIGINT, grace: 30}",
    "workflow": "workflow: {name: my-run, tasks: [...]}",
    "ports": "ports: {http: 1}",
    "restart": "restart: {count: 2}",
}


_ENTRIES = {
    "tasks": "a list of tasks: - {name: a, script: [echo hello]}",
    "artifacts": 'e.g. artifacts: {MODEL: {uri: "fs:///data/model"}}',
    "backends": "e.g. backends: {pool: {type: local, nodes: 2}}",
    "environments": "e.g. environments: {train: {modules: [cuda/12.4], venv: /opt/venv}}",
    "operators": "e.g. operators: {container: {type: container, image: ...}}",
    "variables": "a list of variables: - {name: PORT, value: 8000}",
}
"""How the entries of a section are written."""


def meant_by(key: str, allowed: Sequence[str]) -> str | None:
    """Return the allowed key that a word of another tool stands for; None without one."""
    word = key.lower().replace("-", "_")
    return next((name for name in allowed if word in _WORDS.get(name, ())), None)


def elsewhere(key: str, allowed: Sequence[str]) -> str | None:
    """Return what to write instead of a key that other places have; None where there is no advice."""
    return next((hint for name, sign, hint in _ELSEWHERE if name == key and sign in allowed), None)


def words_for(allowed: Sequence[str]) -> list[str]:
    """Return the words of other tools for these keys."""
    return [word for name in allowed for word in _WORDS.get(name, ())]


def example_of(key: object) -> str | None:
    """Return how a key with a mapping is written, as an example."""
    return _EXAMPLES.get(str(key))


def entry_example(section: str) -> str | None:
    """Return how an entry of a section is written, as an example."""
    return _ENTRIES.get(section)

"""Rules for backends and operators: which fields each type has, needs and accepts."""

from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.expressions.templates import has_expression

Where = Callable[..., str]
_SLURM_NEEDS = ("time", "nodes", "gpus_per_node")
"""Fields of a Slurm backend that a site's settings cannot give."""
_KEYS = ("qos", "constraint", "mem", "cpus_per_task", "reservation", "dependency", "mail")
_REQUIRED = (
    ("docker", "image"),
    ("docker_run", "image"),
    ("container", "image"),
    ("ssh", "host"),
    ("plugin", "plugin"),
)


_ARE_OPTIONS = ("extra_args",)
_HINT = "options go into extra_args; a value cannot begin with a dash"


def smuggled_options(part: schema.Operator | schema.Backend, kind: str, where: Where) -> Iterator[Finding]:
    """Find values that a program would read as one of its options: an image `--privileged`, a host `-oProxyCommand=...`."""
    for name in part.__struct_fields__:
        given = getattr(part, name)
        if name in _ARE_OPTIONS or not isinstance(given, str | list):
            continue
        for value in given if isinstance(given, list) else (given,):
            if isinstance(value, str) and value.lstrip().startswith("-"):
                what = f'"{name}" of a {kind} begins with a dash and would be read as an option: "{value}"'
                yield Finding("option-in-value", what, where(name), _HINT)


def backend_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check that at most one backend is the default, and the fields of each type."""
    defaults = [backend.name for backend in document.backends if backend.default]
    if len(defaults) > 1:
        what = f"Multiple default backends found: {', '.join(defaults)}"
        place = where("backends", defaults[1], "default")
        yield Finding("several-defaults", what, place, "keep one default: true")
    for backend in document.backends:
        yield from smuggled_options(
            backend, "backend", lambda *path, name=backend.name: where("backends", name, *path)
        )
        if backend.type == "slurm":
            for name in _SLURM_NEEDS:
                if getattr(backend, name) is None:
                    what = f'"{name}" is missing: a slurm backend needs it'
                    yield Finding("missing-key", what, where("backends", backend.name), f'add "{name}:"')
        yield from _docker_findings(backend, lambda *path, name=backend.name: where("backends", name, *path))
        yield from _key_findings(backend, lambda *path, name=backend.name: where("backends", name, *path))
        if backend.type == "plugin" and backend.plugin is None:
            what = f'"plugin" is missing: backend "{backend.name}" of type plugin needs it'
            yield Finding("missing-key", what, where("backends", backend.name), "add plugin: NAME")
        if backend.type in ("slurm", "slurm_job") and any(
            getattr(backend, name) is not None for name in _KEYS
        ):
            from sflow_ctl.format.rules.slurm_keys import slurm_key_problems  # few backends have some

            for name, what, hint in slurm_key_problems(backend):
                text = f'{name} of backend "{backend.name}": {what}'
                yield Finding("wrong-value", text, where("backends", backend.name, name), hint)
        excluded = (*backend.exclude_nodes, *backend.exclude)
        both = sorted(set(host_names(backend.include_nodes)) & set(host_names(excluded)))
        if both:
            what = f'{", ".join(both)} of backend "{backend.name}" appear in both include_nodes and exclude_nodes'
            place = where("backends", backend.name, "exclude_nodes")
            yield Finding("conflicting-keys", what, place, "keep each host in one of them")


def host_names(entries: Iterable[str]) -> list[str]:
    """Return the hosts of lists with commas or blanks; entries with expressions are left out."""
    return [
        name for entry in entries if not has_expression(entry) for name in entry.replace(",", " ").split()
    ]


def _key_findings(backend: schema.Backend, where: Where) -> Iterator[Finding]:
    """Check that a backend has only fields of its type."""
    allowed = schema.BACKEND_FIELDS.get(backend.type)
    for field in msgspec.structs.fields(schema.Backend) if allowed is not None else ():
        name, value = field.name, getattr(backend, field.name)
        if allowed is None or name in ("name", "type") or name in allowed or value in (None, [], {}):
            continue
        what = f'unknown key "{name}" of a {backend.type} backend'
        types = [kind for kind, fields in schema.BACKEND_FIELDS.items() if name in fields]
        yield Finding("unknown-key", what, where(name), f"only {' and '.join(types)} backends have it")


def _docker_findings(backend: schema.Backend, where: Where) -> Iterator[Finding]:
    """Check a docker backend's image and hosts."""
    if backend.type != "docker":
        return
    if backend.image is None:
        what = f'"image" is missing: docker backend "{backend.name}" needs it'
        yield Finding("missing-key", what, where(), 'add "image:"')
    yield from _choice_findings(backend, "docker backend", schema.BACKEND_FIELDS["docker"], where)
    seen: set[str] = set()
    for index, host in enumerate(backend.hosts or ()):
        if (host.docker_host is None) == (host.context is None):
            what = f'host "{host.name}" of docker backend "{backend.name}" needs exactly one of docker_host and context'
            yield Finding("missing-key", what, where("hosts", index), "e.g. docker_host: ssh://HOST")
        if host.name in seen:
            what = f'docker backend "{backend.name}" has two hosts called "{host.name}"'
            yield Finding("duplicate-key", what, where("hosts", index, "name"), "rename one of them")
        seen.add(host.name)
    if backend.hosts is not None and backend.nodes is not None:
        what = f'docker backend "{backend.name}" has both hosts and nodes'
        yield Finding("conflicting-keys", what, where("nodes"), "a host is a node: drop nodes")


def all_operator_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check every operator, and that tasks name operators that exist."""
    for operator in document.operators:
        yield from operator_findings(
            operator, lambda *path, name=operator.name: where("operators", name, *path)
        )
    known = {operator.name for operator in document.operators}
    for task in document.workflow.tasks:
        if task.operator is None:
            continue
        name = task.operator if isinstance(task.operator, str) else task.operator.get("name")
        place = where("tasks", task.name, "operator")
        if not isinstance(name, str):
            what = f'the operator of task "{task.name}" needs the name of an entry of operators:'
            yield Finding("missing-key", what, place, "add name: NAME")
        elif name not in known:
            what = f'task "{task.name}" references unknown operator "{name}"'
            hint = guess_hint(name, sorted(known), "define it under operators:")
            yield Finding("unknown-operator", what, place, hint)


def operator_findings(operator: schema.Operator, where: Where) -> Iterator[Finding]:
    """Check one operator; the planner does so again after a task has changed some of its fields."""
    allowed = schema.OPERATOR_FIELDS.get(operator.type)
    if allowed is None:  # its fields are not read
        return
    defaults = schema.Operator(name="", type="bash")
    for name in operator.__struct_fields__:
        if name in ("name", "type") or getattr(operator, name) == getattr(defaults, name) or name in allowed:
            continue
        what = f'unknown key "{name}" of a {operator.type} operator'
        listed = f"allowed: {', '.join(sorted(allowed)) or 'nothing more'}"
        yield Finding("unknown-key", what, where(name), guess_hint(name, sorted(allowed), listed))
    yield from _choice_findings(operator, f"{operator.type} operator", allowed, where)
    yield from smuggled_options(operator, f"{operator.type} operator", where)
    for kind, name in _REQUIRED:
        if operator.type == kind and getattr(operator, name) is None:
            what = f'"{name}" is missing: operators of type {kind} need it'
            yield Finding("missing-key", what, where(), f'add "{name}:"')


def _choice_findings(
    part: schema.Operator | schema.Backend, kind: str, allowed: Collection[str], where: Where
) -> Iterator[Finding]:
    """Check fields whose values are one of a few words."""
    for name, choices in schema.CHOICES.items():
        value = getattr(part, name) if name in allowed else None
        if value is not None and value not in choices and not has_expression(value):
            what = f'"{value}" is not a valid {name} of a {kind}'
            hint = guess_hint(value, choices, f"one of {', '.join(choices)}")
            yield Finding("wrong-value", what, where(name), hint)

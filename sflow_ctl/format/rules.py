"""Rules of the format that types cannot say: references, exclusive fields, names. Each finding has the
format's own phrase.
"""

import re
from collections.abc import Callable, Iterator

from protocol.diagnosis.reasons import RETRY_WORDS, WORDS
from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.expressions.templates import has_expression

Where = Callable[..., str]


def check_rules(document: schema.Document, where: Where) -> list[Finding]:
    """Everything that is wrong with a document whose types are right."""
    findings: list[Finding] = []
    findings += _names(document, where)
    findings += _variables(document, where)
    findings += _artifacts(document, where)
    findings += _backends(document, where)
    findings += _operators(document, where)
    findings += _tasks(document, where)
    return findings


def _names(document: schema.Document, where: Where) -> Iterator[Finding]:
    problem = unsafe_name(document.workflow.name)
    if problem:
        what = f'the workflow\'s name "{document.workflow.name}" {problem}'
        yield Finding("unsafe-name", what, where("workflow", "name"), _NAME_HINT)
    for task in document.workflow.tasks:
        problem = unsafe_name(task.name)
        if problem:
            yield Finding(
                "unsafe-name",
                f'task name "{task.name}" {problem}',
                where("tasks", task.name, "name"),
                _NAME_HINT,
            )


_NAME_HINT = "names become directories: use letters, digits, `_`, `-` and inner dots"


def unsafe_name(name: str) -> str | None:
    """Why a name cannot be part of a path, or None."""
    if not name:
        return "is empty"
    if "/" in name or "\0" in name:
        return "contains a slash" if "/" in name else "contains a NUL character"
    if name.startswith("."):
        return "begins with a dot"
    if any(ord(character) < 32 for character in name):
        return "contains a control character"
    if len(name.encode()) > 200:
        return "is longer than 200 bytes"
    return "contains `#`, which separates attempts" if "#" in name else None


def _variables(document: schema.Document, where: Where) -> Iterator[Finding]:
    for section, variables in (
        ("variables", document.variables),
        ("workflow.variables", document.workflow.variables),
    ):
        for variable in variables:
            place = where(section, variable.name, "value")
            if variable.domain is not None and variable.value not in variable.domain:
                what = f'value {variable.value!r} of variable "{variable.name}" is not in the allowed domain {variable.domain!r}'
                yield Finding(
                    "value-outside-domain", what, place, "choose a value of the domain, or extend it"
                )
            if variable.type is not None and variable.type not in VARIABLE_TYPES:
                what = f'"{variable.type}" is not a valid VariableType'
                hint = f"one of {', '.join(sorted(set(VARIABLE_TYPES)))}"
                yield Finding("unknown-type", what, where(section, variable.name, "type"), hint)


VARIABLE_TYPES = {
    "string": "string",
    "str": "string",
    "integer": "integer",
    "int": "integer",
    "float": "float",
    "boolean": "boolean",
    "bool": "boolean",
    "list": "list",
    "dict": "dict",
}
"""Accepted spellings to the format's own."""


def _artifacts(document: schema.Document, where: Where) -> Iterator[Finding]:
    for artifact in document.artifacts:
        if artifact.content is not None and not artifact.uri.startswith("file://"):
            what = f'artifact "{artifact.name}" has content, which needs a file:// URI'
            yield Finding(
                "artifact-content", what, where("artifacts", artifact.name, "uri"), "use file://PATH"
            )
        if artifact.sha256 is not None and not has_expression(artifact.sha256):
            yield from artifact_sum_findings(artifact, artifact.sha256, where)
        if has_expression(artifact.uri):
            continue
        scheme, separator, rest = artifact.uri.partition("://")
        yield from artifact_field_findings(artifact, scheme, where)
        if not separator or not scheme or not rest:
            what = f'"{artifact.uri}" of artifact "{artifact.name}" is no URI with a scheme and a path'
            yield Finding(
                "artifact-uri", what, where("artifacts", artifact.name, "uri"), "e.g. fs:///data/model"
            )


_SUM = re.compile(r"[0-9a-fA-F]{64}")


def artifact_field_findings(artifact: schema.Artifact, scheme: str, where: Where) -> Iterator[Finding]:
    """Fields that an artifact of this scheme does not have."""
    for field, schemes in schema.ARTIFACT_FIELDS.items():
        if getattr(artifact, field) and scheme.lower() not in schemes:
            what = f'"{field}" of artifact "{artifact.name}" has no meaning for {scheme}://'
            hint = f"only {' and '.join(f'{one}://' for one in schemes)} artifacts have it"
            yield Finding("artifact-field", what, where("artifacts", artifact.name, field), hint)


def artifact_sum_findings(artifact: schema.Artifact, text: str, where: Where) -> Iterator[Finding]:
    """What is wrong with an artifact's checksum, also once its expressions are evaluated."""
    if not _SUM.fullmatch(text):
        what = f'sha256 of artifact "{artifact.name}" is "{text}": it has 64 hexadecimal digits'
        place = where("artifacts", artifact.name, "sha256")
        yield Finding("artifact-sha256", what, place, "`sha256sum FILE` prints it")


def _backends(document: schema.Document, where: Where) -> Iterator[Finding]:
    defaults = [backend.name for backend in document.backends if backend.default]
    if len(defaults) > 1:
        what = f"Multiple default backends found: {', '.join(defaults)}"
        yield Finding(
            "several-defaults", what, where("backends", defaults[1], "default"), "keep one default: true"
        )
    for backend in document.backends:
        if backend.type == "slurm":
            for name in ("time", "nodes", "gpus_per_node"):  # a site may say the others
                if getattr(backend, name) is None:
                    what = f'"{name}" is missing: a slurm backend needs it'
                    yield Finding("missing-key", what, where("backends", backend.name), f'add "{name}:"')
            continue
        for name in ("account", "partition", "time", "job_name", "extra_args"):
            if getattr(backend, name):
                what = f'unknown key "{name}" of a local backend: Extra inputs are not permitted'
                yield Finding(
                    "unknown-key", what, where("backends", backend.name, name), "only slurm backends have it"
                )


def _operators(document: schema.Document, where: Where) -> Iterator[Finding]:
    for operator in document.operators:
        yield from operator_findings(
            operator, lambda *path, name=operator.name: where("operators", name, *path)
        )
    known = {operator.name for operator in document.operators}
    for task in document.workflow.tasks:
        name = task.operator if isinstance(task.operator, str) else (task.operator or {}).get("name")
        if task.operator is None:
            continue
        if not isinstance(name, str):
            what = f'the operator of task "{task.name}" needs the name of an entry of operators:'
            yield Finding("missing-key", what, where("tasks", task.name, "operator"), "add name: NAME")
        elif name not in known:
            what = f'task "{task.name}" references unknown operator "{name}"'
            guess = nearest(name, sorted(known))
            hint = f'did you mean "{guess}"?' if guess else "define it under operators:"
            yield Finding("unknown-operator", what, where("tasks", task.name, "operator"), hint)


def operator_findings(operator: schema.Operator, where: Where) -> Iterator[Finding]:
    """What is wrong with one operator, also after a task has overridden parts of it."""
    allowed = schema.OPERATOR_FIELDS[operator.type]
    defaults = schema.Operator(name="", type="bash")
    for name in operator.__struct_fields__:
        if name in ("name", "type") or getattr(operator, name) == getattr(defaults, name) or name in allowed:
            continue
        what = f'unknown key "{name}" of a {operator.type} operator: Extra inputs are not permitted'
        guess = nearest(name, sorted(allowed))
        hint = (
            f'did you mean "{guess}"?'
            if guess
            else f"allowed: {', '.join(sorted(allowed)) or 'nothing more'}"
        )
        yield Finding("unknown-key", what, where(name), hint)
    for name, choices in schema.CHOICES.items():
        value = getattr(operator, name)
        if value is not None and name in allowed and value not in choices and not has_expression(value):
            guess = nearest(value, choices)
            hint = f'did you mean "{guess}"?' if guess else f"one of {', '.join(choices)}"
            yield Finding(
                "wrong-value", f'"{value}" is no {name} of a {operator.type} operator', where(name), hint
            )
    for kind, name in (("docker", "image"), ("container", "image"), ("ssh", "host")):
        if operator.type == kind and getattr(operator, name) is None:
            yield Finding(
                "missing-key", f'"{name}" is missing: a {kind} operator needs it', where(), f'add "{name}:"'
            )


def _tasks(document: schema.Document, where: Where) -> Iterator[Finding]:
    names = [task.name for task in document.workflow.tasks]
    known = set(names)
    if len(known) < len(names):
        twice = (
            sorted({name for name in names if names.count(name) > 1})
            if len(names) < 1000
            else _duplicates(names)
        )
        what = f"Duplicate task names found: {', '.join(twice)}"
        yield Finding("duplicate-task", what, where("tasks", twice[0]), "give every task a name of its own")
    backends = {backend.name for backend in document.backends} or {"local"}
    for task in document.workflow.tasks:
        if not task.script:
            yield Finding(
                "empty-script", f'task "{task.name}" has an empty script', where("tasks", task.name, "script")
            )
        for index, dependency in enumerate(task.dependencies):
            other = dependency.task
            if other not in known:
                guess = nearest(other, names)
                hint = f'did you mean "{guess}"?' if guess else f"tasks here: {', '.join(names[:10])}"
                what = f'task "{task.name}" depends on unknown task "{other}"'
                yield Finding(
                    "unknown-dependency", what, where("tasks", task.name, "depends_on", index), hint
                )
        own = task.backend if isinstance(task.backend, dict) else {}
        name = own.get("name") if own else task.backend
        if isinstance(name, str) and name not in backends and "type" not in own:
            guess = nearest(name, sorted(backends))
            hint = f'did you mean "{guess}"?' if guess else "define it under backends:"
            what = f'task "{task.name}" references unknown backend "{name}"'
            yield Finding("unknown-backend", what, where("tasks", task.name, "backend"), hint)
        yield from _ends(document, task, where)
        yield from _outputs(task, where)
        yield from _ports(task, where)
        yield from _files(task, where)
        yield from _retries(task, document, where)
        yield from _probes(task, known, where)


def _ends(document: schema.Document, task: schema.Task, where: Where) -> Iterator[Finding]:
    """What goes together of all that says when a task ends and what that means."""
    name = task.name

    def conflict(what: str, field: str, hint: str) -> Finding:
        return Finding("conflicting-keys", f'task "{name}" {what}', where("tasks", name, field), hint)

    if task.restart is not None and task.retries is not None:
        yield conflict(
            "has both retries and restart", "restart", "restart covers every failure: drop retries"
        )
    if task.restart is not None and not task.is_service:
        hint = "use retries, or make it a service: kind: service, or a readiness probe"
        yield conflict("has restart, which is for services", "restart", hint)
    if task.critical in (False, "false") and task.on_failure not in (None, "continue"):
        hint = "critical: false is on_failure: continue; keep one of the two"
        yield conflict(f"is not critical, and on_failure is {task.on_failure}", "on_failure", hint)
    if task.replicas is not None and task.replicas.min_ready is not None and not task.is_service:
        hint = "it counts ready replicas: add a readiness probe, or kind: service"
        yield conflict("has min_ready, which is for services", "replicas", hint)
    yield from _hang(task, where)
    finals = {other.name for other in document.workflow.tasks if other.finally_}
    for index, dependency in enumerate(task.dependencies):
        if task.finally_ and dependency.task not in finals:
            what = f'task "{name}" runs at the end, after all others: it cannot depend on "{dependency.task}"'
            place = where("tasks", name, "depends_on", index)
            yield Finding("conflicting-keys", what, place, "drop the dependency, or finally")
        elif not task.finally_ and dependency.task in finals:
            what = f'task "{name}" depends on "{dependency.task}", which only runs at the end'
            place = where("tasks", name, "depends_on", index)
            yield Finding("conflicting-keys", what, place, "make it a finally task as well")
    if task.finally_:
        unfit = [field for field in ("main", "restart") if getattr(task, field)]
        unfit += ["kind"] if task.is_service else []
        for field in unfit:
            what = "runs at the end, as a task that must end itself"
            yield conflict(what, field, f"drop {field}" if field != "kind" else "it cannot be a service")


def _retries(task: schema.Task, document: schema.Document, where: Where) -> Iterator[Finding]:
    known = [*RETRY_WORDS, *(reason_of(signature) for signature in document.signatures)]
    for index, word in enumerate(task.retries.reasons if task.retries is not None else ()):
        if word in known or has_expression(word):
            continue
        guess = nearest(word, known)
        is_final = word in WORDS
        what = f'no attempt ends with the reason "{word}"'
        if is_final:
            what = f'what ends with the reason "{word}" is never tried again'
        hint = f'did you mean "{guess}"?' if guess and not is_final else f"one of {', '.join(known)}"
        place = where("tasks", task.name, "retries", "reasons", index)
        yield Finding("unknown-reason", what, place, hint)


def reason_of(signature: schema.Signature) -> str:
    """The word that a signature gives: its own name, unless it says another."""
    return signature.reason if signature.reason is not None else signature.name.replace("-", "_")


def _hang(task: schema.Task, where: Where) -> Iterator[Finding]:
    if task.hang is None:
        return
    place = where("tasks", task.name, "hang")
    if task.hang.no_output_for is None and task.hang.no_gpu_use_for is None:
        what = f'hang of task "{task.name}" needs no_output_for or no_gpu_use_for'
        yield Finding("missing-key", what, place, "e.g. no_output_for: 10m")
    if task.is_service and task.hang.when != "always" and not (task.probes and task.probes.readiness):
        what = f'hang of task "{task.name}" never counts: the service is ready as soon as it runs'
        hint = "add when: always, or a readiness probe for the time until then"
        yield Finding("conflicting-keys", what, place, hint)


def _outputs(task: schema.Task, where: Where) -> Iterator[Finding]:
    for index, output in enumerate(task.outputs):
        place = where("tasks", task.name, "outputs", index)
        chosen = [name for name in ("pattern", "json", "csv") if getattr(output, name) is not None]
        if len(chosen) != 1:
            what = f'an output of task "{task.name}" needs exactly one of pattern, json and csv'
            found = ", ".join(chosen) or "none"
            yield Finding("missing-key", f"{what}, found {found}", place, 'e.g. pattern: "rate = {rate:f}"')
        elif output.csv is not None and output.source == "stdout":
            what = f'an output of task "{task.name}" takes a CSV column, which needs a file'
            yield Finding("missing-key", what, place, "add source: FILE, relative to the task's directory")
        elif output.pattern is not None and output.name is not None:
            what = f'an output of task "{task.name}" has a pattern, whose fields name the values'
            yield Finding(
                "unknown-key", what, where("tasks", task.name, "outputs", index, "name"), "drop name"
            )


_PORT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def _ports(task: schema.Task, where: Where) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name in task.ports:
        place = where("tasks", task.name, "ports", name)
        if not _PORT_NAME.fullmatch(name):
            what = f'"{name}" of task "{task.name}" cannot be the name of a port'
            hint = "names are part of variables (SFLOW_PORT_...): use letters, digits and `_`"
            yield Finding("port-name", what, place, hint)
        other = seen.setdefault(name.upper(), name)
        if other != name:
            what = f'ports "{other}" and "{name}" of task "{task.name}" would be one variable, SFLOW_PORT_{name.upper()}'
            yield Finding("port-name", what, place, "rename one of them")


_MODE = re.compile(r"(?:0o?)?[0-7]{3}")


def _files(task: schema.Task, where: Where) -> Iterator[Finding]:
    for path, file in task.files.items():
        place = ("tasks", task.name, "files", path)
        problem = unsafe_path(path)
        if problem is not None:
            what = f'file "{path}" of task "{task.name}" {problem}'
            hint = "paths are relative to the task's directory, and stay in it"
            yield Finding("unsafe-path", what, where(*place), hint)
        elif path == f"{task.name}.log" or path == "outputs.json":
            what = f'file "{path}" of task "{task.name}" has the name of a file that sflow-ctl writes'
            yield Finding("unsafe-path", what, where(*place), "rename it")
        if isinstance(file, str):
            continue
        if (file.content is None) == (file.source is None):
            what = f'file "{path}" of task "{task.name}" needs exactly one of content and from'
            yield Finding("missing-key", what, where(*place), "content: TEXT, or from: ARTIFACT or a path")
        if file.mode is not None and not _MODE.fullmatch(file.mode):
            what = f'mode "{file.mode}" of file "{path}" of task "{task.name}" is none'
            yield Finding("wrong-value", what, where(*place, "mode"), 'three octal digits: mode: "755"')


def unsafe_path(path: str) -> str | None:
    """Why a path does not name a file below a directory, or None."""
    parts = path.split("/")
    if path.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leads out of the task's directory"
    if any(part in ("", ".") for part in parts):
        return "names no file"
    if any(ord(character) < 32 for character in path):
        return "contains a control character"
    return "has a name of more than 200 bytes" if any(len(part.encode()) > 200 for part in parts) else None


def _duplicates(names: list[str]) -> list[str]:
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]


PROBE_KINDS = schema.Condition.__struct_fields__


def _probes(task: schema.Task, known: set[str], where: Where) -> Iterator[Finding]:
    for kind in ("readiness", "failure"):
        probe: schema.Probe | None = getattr(task.probes, kind) if task.probes is not None else None
        if probe is None:
            continue
        path = ("tasks", task.name, "probes", kind)
        chosen = [name for name in (*PROBE_KINDS, "all", "any") if getattr(probe, name) is not None]
        if len(chosen) != 1:
            yield _probe_kinds(chosen, (*PROBE_KINDS, "all", "any"), where(*path))
        if kind == "failure" and probe.deadline is not None:
            what = f'the failure probe of task "{task.name}" has a deadline, which is for readiness'
            hint = "use the task's timeout for a limit"
            yield Finding("probe-deadline", what, where(*path, "deadline"), hint)
        yield from _condition(probe, kind, known, where, path)
        for several in ("all", "any"):
            parts: list[schema.Condition] | None = getattr(probe, several)
            if parts is not None and not parts:
                what = f'"{several}" of the {kind} probe of task "{task.name}" is empty'
                yield Finding("probe-kinds", what, where(*path, several), "list at least one check")
            for index, part in enumerate(parts or ()):
                place = (*path, several, index)
                chosen = [name for name in PROBE_KINDS if getattr(part, name) is not None]
                if len(chosen) != 1:
                    yield _probe_kinds(chosen, PROBE_KINDS, where(*place))
                yield from _condition(part, kind, known, where, place)


def _probe_kinds(chosen: list[str], possible: tuple[str, ...], place: str) -> Finding:
    what = f"Exactly one probe type must be specified, found {', '.join(chosen) or 'none'}"
    return Finding("probe-kinds", what, place, f"one of {', '.join(possible)}")


def _condition(
    condition: schema.Condition, kind: str, known: set[str], where: Where, path: tuple[str | int, ...]
) -> Iterator[Finding]:
    watch = condition.log_watch
    if watch is None:
        return
    if (watch.regex_pattern is None) == (watch.match_pattern is None):
        both = watch.regex_pattern is not None
        what = (
            "Only one of regex_pattern and match_pattern may be given"
            if both
            else "Either regex_pattern or match_pattern must be given"
        )
        yield Finding("probe-pattern", what, where(*path), "they mean the same; write match_pattern")
    if watch.logger is not None and base_of_logger(watch.logger) not in known:
        what = f'{kind} probe refers to unknown task "{watch.logger}"'
        guess = nearest(watch.logger, sorted(known))
        hint = f'did you mean "{guess}"?' if guess else None
        yield Finding("unknown-logger", what, where(*path), hint)


def base_of_logger(logger: str) -> str:
    """The task's name in `name` or `name[3]`."""
    return logger.partition("[")[0] if logger.endswith("]") else logger

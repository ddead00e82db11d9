"""Rules for tasks: names and references, and which policies exclude each other."""

from collections import Counter
from collections.abc import Callable, Iterator, Set

from protocol.diagnosis.reasons import RETRY_WORDS, WORDS
from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.expressions.templates import has_expression
from sflow_ctl.format.rules.definitions import reason_of
from sflow_ctl.format.rules.names import FILES_OF_RUN, NAME_HINT, unsafe_name

Where = Callable[..., str]
_FLAG = lazy_pattern(r"-{0,2}[A-Za-z0-9][\w.:/-]*")
_USES_ARGS = lazy_pattern(r"\$\{\{[^}]*\bargs\b")


def name_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check that the workflow's and the tasks' names can be directories, and that tasks have different ones."""
    name = document.workflow.name
    problem = unsafe_name(name)
    if problem:
        what = f'the workflow\'s name "{name}" {problem}'
        yield Finding("unsafe-name", what, where("workflow", "name"), NAME_HINT)
    for task in document.workflow.tasks:
        problem = unsafe_name(task.name)
        if problem:
            what = f'task name "{task.name}" {problem}'
            yield Finding("unsafe-name", what, where("tasks", task.name, "name"), NAME_HINT)
        elif task.name in FILES_OF_RUN:
            what = f'task name "{task.name}" is the name of a file in the run directory'
            yield Finding("unsafe-name", what, where("tasks", task.name, "name"), "rename the task")
    counts = Counter(task.name for task in document.workflow.tasks)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        what = f"Duplicate task names found: {', '.join(twice)}"
        yield Finding("duplicate-task", what, where("tasks", twice[0]), "give every task a name of its own")


def reference_findings(
    document: schema.Document, task: schema.Task, known: Set[str], where: Where
) -> Iterator[Finding]:
    """Check that a task has a script, and depends on tasks and uses a backend that exist."""
    if not task.script:
        what = f'task "{task.name}" has an empty script'
        yield Finding(
            "empty-script", what, where("tasks", task.name, "script"), "write the commands that it runs"
        )
    for index, dependency in enumerate(task.dependencies):
        other = dependency.task
        if other not in known:
            names = [one.name for one in document.workflow.tasks]
            hint = guess_hint(other, names, f"tasks here: {', '.join(names[:10])}")
            what = f'task "{task.name}" depends on unknown task "{other}"'
            place = where("tasks", task.name, *place_of_dependency(task, index))
            yield Finding("unknown-dependency", what, place, hint)
    backends = {backend.name for backend in document.backends} or {"local"}
    own = task.backend if isinstance(task.backend, dict) else {}
    name = own.get("name") if own else task.backend
    if isinstance(name, str) and name not in backends and "type" not in own:
        hint = guess_hint(name, sorted(backends), "define it under backends:")
        what = f'task "{task.name}" references unknown backend "{name}"'
        yield Finding("unknown-backend", what, where("tasks", task.name, "backend"), hint)


def place_of_dependency(task: schema.Task, index: int) -> tuple[str | int, ...]:
    """Return the path in a task of one of its `dependencies`: of `depends_on`, or of the input that it follows from."""
    if index < len(task.depends_on):
        return "depends_on", index
    start = f"{task.dependencies[index].task}.outputs."
    sources = [source for one in task.inputs.values() for source in one.source]
    if not any(source.startswith(start) for source in sources):
        return "foreach", "items"
    named = (
        name for name, one in task.inputs.items() if any(source.startswith(start) for source in one.source)
    )
    return "inputs", next(named), "from"


def argument_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check the names of `args`, and that a script uses them."""
    place = ("tasks", task.name)
    for name in task.args:
        if not _FLAG.fullmatch(name):
            what = f'"{name}" in args of task "{task.name}" is not a name for an option'
            yield Finding(
                "wrong-name", what, where(*place, "args", name), "letters, digits, and - _ . between them"
            )
    if task.args_json is not None and (
        task.args_json.startswith("/") or ".." in task.args_json.split("/") or task.args_json in task.files
    ):
        what = (
            f'args_json of task "{task.name}" is not a new file in the task\'s directory: "{task.args_json}"'
        )
        yield Finding("wrong-value", what, where(*place, "args_json"), "e.g. args_json: args.json")
    if task.args and task.args_json is None and not any(_USES_ARGS.search(line) for line in task.script):
        what = f'task "{task.name}" has args, and its script does not use them'
        yield Finding("unused-args", what, where(*place, "args"), "e.g. script: python train.py ${{ args }}")


def resource_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that a request for GPUs says how many, or which."""
    gpus = task.resources.gpus if task.resources is not None else None
    if gpus is None:
        return
    place = ("tasks", task.name, "resources", "gpus")
    if gpus.count is None and gpus.indices is None:
        what = f'resources.gpus of task "{task.name}" needs count or indices'
        yield Finding("missing-key", what, where(*place), "e.g. count: 2")
    yield from _sizing_findings(task, gpus, where)
    if isinstance(gpus.indices, list):
        numbers = [index for index in gpus.indices if isinstance(index, int | float)]
        wrong = [index for index in numbers if index < 0 or int(index) != index]
        if not gpus.indices or wrong or len(set(numbers)) < len(numbers):
            problem = "is empty" if not gpus.indices else f"has {wrong[0]}" if wrong else "names a GPU twice"
            what = f'resources.gpus.indices of task "{task.name}" {problem}'
            yield Finding("wrong-value", what, where(*place, "indices"), "numbers from 0, each once")


def _sizing_findings(task: schema.Task, gpus: schema.Gpus, where: Where) -> Iterator[Finding]:
    """Check that memory decides the number of GPUs, or nothing of it is given."""
    place = ("tasks", task.name, "resources", "gpus")
    is_auto = gpus.count == "auto"
    if is_auto and gpus.memory is None:
        what = f'resources.gpus of task "{task.name}" has count: auto, and no memory to compute it from'
        yield Finding("missing-key", what, where(*place), "e.g. memory: 120G")
    if is_auto and gpus.indices is not None:
        what = f'resources.gpus of task "{task.name}" has count: auto and indices'
        yield Finding("conflicting-keys", what, where(*place, "indices"), "keep one of them")
    given = (("memory", None), ("max", None), ("min", 1), ("safety", 1), ("round_to", 1))
    unused = [name for name, default in given if getattr(gpus, name) != default]
    if unused and not is_auto:
        what = f'resources.gpus of task "{task.name}" has {unused[0]}, which is for count: auto'
        yield Finding("conflicting-keys", what, where(*place, unused[0]), "write count: auto, or drop it")


def policy_findings(task: schema.Task, finals: Set[str], where: Where) -> Iterator[Finding]:
    """Check that the policies for a task's end do not contradict each other. `finals` are the tasks that run at the end."""

    def conflict(what: str, field: str, hint: str) -> Finding:
        return Finding(
            "conflicting-keys", f'task "{task.name}" {what}', where("tasks", task.name, field), hint
        )

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
    yield from _finally_findings(task, finals, where)


def _finally_findings(task: schema.Task, finals: Set[str], where: Where) -> Iterator[Finding]:
    """Check that tasks for the run's end depend only on each other, and can end themselves."""
    for index, dependency in enumerate(task.dependencies):
        place = where("tasks", task.name, *place_of_dependency(task, index))
        if task.finally_ and dependency.task not in finals:
            what = f'task "{task.name}" runs at the end, after all others: it cannot depend on "{dependency.task}"'
            yield Finding("conflicting-keys", what, place, "drop the dependency, or finally")
        elif not task.finally_ and dependency.task in finals:
            what = f'task "{task.name}" depends on "{dependency.task}", which only runs at the end'
            yield Finding("conflicting-keys", what, place, "make it a finally task as well")
    if not task.finally_:
        return
    unfit = [field for field in ("main", "restart") if getattr(task, field)]
    for field in [*unfit, "kind"] if task.is_service else unfit:
        what = f'task "{task.name}" runs at the end, as a task that must end itself'
        hint = f"drop {field}" if field != "kind" else "it cannot be a service"
        yield Finding("conflicting-keys", what, where("tasks", task.name, field), hint)


def retry_findings(document: schema.Document, task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check the reason words of `retries.reasons`."""
    known = [*RETRY_WORDS, *(reason_of(signature) for signature in document.signatures)]
    for index, word in enumerate((task.retries.reasons or ()) if task.retries is not None else ()):
        if word in known or has_expression(word):
            continue
        listed = f"one of {', '.join(known)}"
        what, hint = f'no attempt ends with the reason "{word}"', guess_hint(word, known, listed)
        if word in WORDS:
            what, hint = f'an end with the reason "{word}" is never retried', listed
        place = where("tasks", task.name, "retries", "reasons", index)
        yield Finding("unknown-reason", what, place, hint)


def hang_findings(task: schema.Task, where: Where) -> Iterator[Finding]:
    """Check that `hang` has a limit, and a time in which it counts."""
    if task.hang is None:
        return
    place = where("tasks", task.name, "hang")
    if task.hang.no_output_for is None and task.hang.no_gpu_use_for is None:
        what = f'hang of task "{task.name}" needs no_output_for or no_gpu_use_for'
        yield Finding("missing-key", what, place, "e.g. no_output_for: 10m")
    if task.is_service and task.hang.when != "always" and not task.probes_of("readiness"):
        what = f'hang of task "{task.name}" never counts: the service is ready as soon as it runs'
        hint = "add when: always, or a readiness probe for the time until then"
        yield Finding("conflicting-keys", what, place, hint)

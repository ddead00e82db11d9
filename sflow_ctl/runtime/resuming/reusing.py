"""Results of other runs for a new one, `run --reuse RUN[:TASKS]`: which count, which do not and why, and how a run has them.

A result counts if the task has the same key, or the same name, and is the same work, its files are there, and all that it needs
counts as well. It is used where it is: the other run's files stay the only ones. Called when a run with that option is planned
or begins.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from protocol.errors import UsageError
from sflow_ctl.core.actions.resume import PriorResult, decide
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.artifact_mentions import PlannedArtifactUse
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.same_work import Work, fingerprint
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.selecting.selectors import Selectable, selected
from sflow_ctl.runtime.files.task_results import OF_TASK
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular, write_durably
from sflow_ctl.runtime.record.prior_plans import moved
from sflow_ctl.runtime.record.reader import find_run
from sflow_ctl.runtime.resuming.overrides import read_overrides
from sflow_ctl.runtime.resuming.results_there import ResultsThere, results_there
from sflow_ctl.runtime.run.resume import PriorRun, prior_run

_PARENT = "SFLOW_OUTPUT_DIR"
Word = Literal["hit", "forced", "stale", "miss"]


class ReuseDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one task, in `reuse.json`."""

    task: str
    """The concrete task of the new run."""
    decision: Word
    """`hit`: its result is the other run's; `forced`: it is, although the work has changed (`--reuse-anyway`); `stale`: it runs,
    since something has changed; `miss`: it runs, since there is no result."""
    why: str
    """The reason, as a sentence."""
    run_id: str = ""
    """The other run."""
    source: str = ""
    """The concrete task there."""
    attempt: int = 0
    """Its attempt."""
    fingerprint: str = ""
    """SHA-256 of the task's work in the new run."""


class ReuseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`reuse.json`."""

    schema: str = "sflow.reuse.v1"
    runs: tuple[str, ...]
    """The directories of the other runs, absolute."""
    decisions: tuple[ReuseDecision, ...]


class Reuse(NamedTuple):
    """What a new run takes over."""

    decisions: tuple[ReuseDecision, ...]
    results: dict[str, PriorResult]
    documents: dict[str, dict[str, Any]]
    """The `outputs.json` of each task that is taken over and has outputs."""
    copies: dict[str, Path]
    """The `result.json` of tasks, likewise."""
    runs: tuple[str, ...]


class _Source(NamedTuple):
    prior: PriorRun
    chosen: frozenset[str]
    keys: Mapping[str, str]
    """Keys to names."""


class _Match(NamedTuple):
    """The task of another run that a task may have its result of."""

    source: _Source
    name: str


def reuse(
    plan: Plan, texts: Sequence[str], anyway: Sequence[str], output_dir: Path, workspace: Path
) -> Reuse:
    """Decide what a new run of a plan takes over from other runs. Raises: UsageError for runs and tasks that there are not."""
    sources = [source_of(text, output_dir, workspace) for text in texts]
    forced = _forced(plan, anyway)
    matches: dict[str, _Match] = {}
    missed: dict[str, str] = {}
    for task in plan.tasks:
        if task.finally_when is not None:
            continue
        found = [one for one in (_match(task, source) for source in sources) if isinstance(one, _Match)]
        done = next((one for one in found if _state(one) is TaskState.COMPLETED), None)
        if done is not None:
            matches[task.name] = done
        elif found:
            missed[task.name] = (
                f"{found[0].name} of {found[0].source.prior.facts.run_id} is {_state(found[0])}"
            )
        else:
            missed[task.name] = "no chosen task has its key" if task.key else "no chosen task has its name"
    there = _Results(plan, matches, workspace)
    whys = _force(plan, there, forced)
    free = _without_needs(plan, frozenset(whys))
    kept, again = decide(free, {**there.completed, **dict.fromkeys(whys, free)}, there.incomplete)
    return _Decided(plan, matches, missed, there, kept, again, whys, sources).reuse()


def _force(plan: Plan, there: "_Results", forced: frozenset[str]) -> dict[str, str]:
    """Return the tasks whose results count whatever has changed, with why they would not count."""
    kept, again = (
        decide(plan, there.completed, there.incomplete) if forced else (set[str](), dict[str, str]())
    )
    return {
        name: again.get(name, "it needs to run for others")
        for name in sorted(forced)
        if name in there.completed and name not in kept and name not in there.lost
    }


def _without_needs(plan: Plan, names: frozenset[str]) -> Plan:
    """Return a plan in which tasks wait for nothing: their results count whatever the others do."""
    if not names:
        return plan
    tasks = tuple(
        msgspec.structs.replace(one, depends_on=()) if one.name in names else one for one in plan.tasks
    )
    return msgspec.structs.replace(plan, tasks=tasks)


def source_of(text: str, output_dir: Path, workspace: Path) -> _Source:
    """Return the run and the tasks of it that `RUN[:TASKS]` means. Raises: UsageError."""
    run, colon, words = text.partition(":")
    if (Path(text) / layout.RUN).is_file():
        run, colon, words = text, "", ""
    directory = find_run(run, output_dir).absolute()
    prior = prior_run(directory, workspace, None, is_completed=True)
    tasks = [Selectable(one.name, one.base, one.replica_index, one.key) for one in prior.state.plan.tasks]
    names = [one.name for one in tasks]
    if colon:
        names = selected(words, tasks)
        if not names:
            what = f'run {prior.facts.run_id} has no task "{words}"'
            raise UsageError.of("unknown-task", what, hint=f"sflow-ctl keys {run} lists its tasks")
    return _Source(prior, frozenset(names), {one.key: one.name for one in tasks if one.key})


def _forced(plan: Plan, words: Sequence[str]) -> frozenset[str]:
    tasks = [Selectable(one.name, one.base, one.replica_index, one.key) for one in plan.tasks]
    found: set[str] = set()
    for word in words:
        names = selected(word, tasks)
        if not names:
            what = f'the workflow has no task "{word}"'
            raise UsageError.of("unknown-task", what, hint="--reuse-anyway names tasks of the new run")
        found.update(names)
    return frozenset(found)


def _match(task: PlannedTask, source: _Source) -> _Match | None:
    name = source.keys.get(task.key) if task.key else task.name
    if name is None or name not in source.chosen or name not in source.prior.state.tasks:
        return None
    return _Match(source, name)


def _state(match: _Match) -> TaskState:
    return match.source.prior.state.tasks[match.name].state


class _Results:
    """The results of matched tasks, by their names in the new run."""

    def __init__(self, plan: Plan, matches: Mapping[str, _Match], workspace: Path) -> None:
        self.completed: dict[str, Plan] = {}
        self.incomplete: dict[str, str] = {}
        self.outputs: dict[str, dict[str, Any] | None] = {}
        self.found: dict[str, tuple[Any, ...]] = {}
        self.lost: set[str] = set()
        """Those of which something is missing."""
        directory = _directory_of(plan)
        for source in {id(one.source): one.source for one in matches.values()}.values():
            names = {match.name: task for task, match in matches.items() if match.source is source}
            renamed = _with_names(plan, {new: old for old, new in names.items()})
            records = {old: source.prior.state.tasks[old] for old in names}
            there = results_there(source.prior, renamed, records, is_dry=True)
            plans: dict[int, Plan] = {}
            for old, new in names.items():
                if old in there.completed:
                    self._take(there, old, new)
                    before = there.completed[old]
                    if id(before) not in plans:
                        here = _in_output_dir(moved(before, directory, workspace), plan)
                        plans[id(before)] = _with_names(here, names)
                    self.completed[new] = plans[id(before)]

    def _take(self, there: ResultsThere, old: str, new: str) -> None:
        self.outputs[new] = there.outputs.get(old)
        self.found[new] = there.found.get(old, ())
        if old in there.incomplete:
            self.incomplete[new] = there.incomplete[old]
            if old not in there.stale:
                self.lost.add(new)


def _in_output_dir(old: Plan, new: Plan) -> Plan:
    """Give a plan that nothing else has the parent of run directories that another plan has: it does not count as work."""
    parent = new.tasks[0].env.get(_PARENT)
    for task in kinds_of(old.tasks):
        if parent is not None and _PARENT in task.env:
            task.env[_PARENT] = parent
    return old


def _directory_of(plan: Plan) -> Path:
    return Path(plan.tasks[0].env["SFLOW_WORKFLOW_OUTPUT_DIR"])


def _with_names(plan: Plan, names: Mapping[str, str]) -> Plan:
    """Return a plan whose tasks, and what names them, have other names."""
    changed = {old: new for old, new in names.items() if old != new}
    if not changed:
        return plan
    tasks = tuple(_renamed(task, changed) for task in plan.tasks)
    return msgspec.structs.replace(plan, tasks=tasks)


def _renamed(task: PlannedTask, names: Mapping[str, str]) -> PlannedTask:
    return msgspec.structs.replace(
        task,
        name=names.get(task.name, task.name),
        depends_on=tuple(
            one if one.is_group else msgspec.structs.replace(one, task=names.get(one.task, one.task))
            for one in task.depends_on
        ),
        inputs=tuple(
            msgspec.structs.replace(
                one,
                sources=tuple(
                    msgspec.structs.replace(each, tasks=tuple(names.get(name, name) for name in each.tasks))
                    for each in one.sources
                ),
            )
            for one in task.inputs
        ),
    )


class _Decided:
    """Makes the decisions, and what follows from them."""

    def __init__(
        self,
        plan: Plan,
        matches: Mapping[str, _Match],
        missed: Mapping[str, str],
        there: _Results,
        kept: set[str],
        again: Mapping[str, str],
        forced: Mapping[str, str],
        sources: Sequence[_Source],
    ) -> None:
        self._plan, self._matches, self._missed, self._there = plan, matches, missed, there
        self._kept, self._again, self._forced, self._sources = kept, again, forced, sources
        self._use = PlannedArtifactUse(plan)

    def reuse(self) -> Reuse:
        decisions = tuple(self._decision(one) for one in self._plan.tasks if one.finally_when is None)
        taken = {one.task: one for one in decisions if one.decision in ("hit", "forced")}
        results = {name: self._result(one) for name, one in taken.items()}
        documents, copies = {}, {}
        for name, one in taken.items():
            match = self._matches.get(name)
            if match is None:
                continue  # a service that nothing needs
            folder = match.source.prior.directory / match.name
            document = _document(folder / "outputs.json")
            if document is not None:
                documents[name] = self._changed(document, one, match)
            if (folder / OF_TASK).is_file():
                copies[name] = folder / OF_TASK
        runs = tuple(str(one.prior.directory) for one in self._sources)
        return Reuse(decisions, results, documents, copies, runs)

    def _decision(self, task: PlannedTask) -> ReuseDecision:
        name, match = task.name, self._matches.get(task.name)
        mark = fingerprint(Work(task, self._use))
        if match is None:
            is_idle = name in self._kept and task.is_service
            why = "nothing that runs needs it" if is_idle else self._missed[name]
            return ReuseDecision(task=name, decision="hit" if is_idle else "miss", why=why, fingerprint=mark)
        prior = match.source.prior
        attempt = prior.state.tasks[match.name].attempts
        word: Word = "hit" if name in self._kept else "stale"
        why = f"{match.name} of {prior.facts.run_id} is the same work"
        if name in self._forced:
            word = "forced"
            why = f"{self._forced[name]}; --reuse-anyway takes the result of {match.name} all the same"
        elif word == "stale":
            why = self._again.get(name) or "it needs to run for others"
        return ReuseDecision(
            task=name,
            decision=word,
            why=why,
            run_id=prior.facts.run_id,
            source=match.name,
            attempt=attempt,
            fingerprint=mark,
        )

    def _result(self, one: ReuseDecision) -> PriorResult:
        whose = f"{one.source} of {one.run_id}, attempt {one.attempt}" if one.source else one.why
        return PriorResult(
            TaskState.WAITING,
            0,
            is_done=True,
            outputs=self._there.outputs.get(one.task),
            found=self._there.found.get(one.task, ()),
            reused=f"its result is that of {whose}; fingerprint {one.fingerprint[:12]}"
            if one.source
            else whose,
        )

    def _changed(self, document: dict[str, Any], one: ReuseDecision, match: _Match) -> dict[str, Any]:
        """Return what the new run has of a task's outputs: with values that were set, and with where they are from."""
        values = self._there.outputs.get(one.task) or {}
        found = [msgspec.to_builtins(each) for each in self._there.found.get(one.task, ())]
        set_values = read_overrides(match.source.prior.directory).of(match.name, one.attempt)
        outputs = {
            **document.get("outputs", {}),
            **{name: values[name] for name in set_values if name in values},
        }
        origin = {"run": str(match.source.prior.directory), "task": match.name, "attempt": one.attempt}
        changed = {**document, "task": one.task, "outputs": outputs, "reused_from": origin}
        return {**changed, "found": found} if found else changed


def _document(path: Path) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(read_regular(path))
    except (OSError, *UNREADABLE):
        return None
    return document if isinstance(document, dict) else None


def write_reuse(directory: Path, found: Reuse) -> None:
    """Write what a new run has taken over into its directory. Raises: OSError."""
    for name, document in found.documents.items():
        _write(directory / name / "outputs.json", document)
    for name, path in found.copies.items():
        folder = directory / name
        folder.mkdir(mode=0o700, exist_ok=True)
        write_durably(folder / OF_TASK, read_regular(path))
    record = ReuseRecord(runs=found.runs, decisions=found.decisions)
    _write(directory / layout.REUSE, record)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    write_durably(path, SECRETS.mask.raw(text))


def reuse_lines(found: Reuse, most: int = 20) -> list[str]:
    """Return what is taken over, and why the rest is not, for people."""
    counts = {
        word: sum(one.decision == word for one in found.decisions)
        for word in ("hit", "forced", "stale", "miss")
    }
    lines = [f"reuse: {', '.join(f'{count} {word}' for word, count in counts.items() if count)}"]
    shown = sorted(found.decisions, key=lambda one: one.decision == "hit")[:most]
    lines += [f"  {one.decision:<6} {one.task}: {one.why}" for one in shown]
    more = len(found.decisions) - len(shown)
    return [*lines, f"  and {more} more"] if more else lines

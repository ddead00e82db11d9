"""`sflow-ctl outputs set RUN TASK NAME=VALUE`: another value for an output, in a record beside the one that its task has left."""

from collections.abc import Sequence
from pathlib import Path

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.handover.shown_values import shown_value
from sflow_ctl.cli.options.run_option import chosen_tasks
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.runtime.handover.listing import outputs_of
from sflow_ctl.runtime.operating.client import asking_person
from sflow_ctl.runtime.record.reader import Liveness, RunReader, find_run
from sflow_ctl.runtime.resuming.overrides import set_output

_USAGE = "sflow-ctl outputs set RUN TASK NAME=VALUE, or NAME=@PATH"


def set_outputs(words: Sequence[str], output_dir: Path) -> int:
    """Set outputs of a task that has completed; return the exit status. Raises: UsageError."""
    if len(words) < 3:
        raise UsageError.of("options", "a run, a task and a value are needed", hint=_USAGE)
    run, word, *given = words
    reader = RunReader(find_run(run, output_dir))
    status = reader.status()
    if status.liveness not in (Liveness.ENDED, Liveness.DEAD):
        what = f"run {reader.facts.run_id} may still be running: {status.text}"
        raise UsageError.of("still-running", what, hint="stop it first, or wait for its end")
    reader.refresh()
    names = chosen_tasks(reader, (word,))
    if len(names) != 1:
        what = f'"{word}" means {len(names)} tasks'
        raise UsageError.of("ambiguous-task", what, hint=f"name one of them: {', '.join(names[:8])}")
    task = next(one for one in reader.plan.tasks if one.name == names[0])
    record = reader.state.tasks[task.name]
    if record.state is not TaskState.COMPLETED or not task.has_values:
        what = f"{task.name} has no outputs: it is {record.state}"
        what = what if task.has_values else f"{task.name} declares no outputs"
        raise UsageError.of("no-outputs", what, hint="only outputs of completed tasks can be set")
    for one in given:
        old = {each.name: each.value or each.path for each in outputs_of(reader, {task.name})}
        made = set_output(reader.directory, task, record.attempts, old, one, asking_person())
        print_line(f"{task.name}.{made.name}: {shown_value(made.value)}, was {shown_value(made.old)}")
    members = reader.plan.members()
    later = [one.name for one in reader.plan.tasks if task.name in dependency_names(one, members)]
    if later:
        place = display_path(reader.directory)
        print_line(f"stale now: {', '.join(later[:8])}; sflow-ctl rerun {place} runs them again")
    return int(ExitStatus.OK)

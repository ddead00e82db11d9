"""Plans the `checkpoint` of a task: its rules with expressions evaluated, and its short forms in full."""

from collections.abc import Callable
from typing import Any

from protocol.messages.handover import CheckpointRules, FileSelection
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import as_text
from sflow_ctl.format.rules.handover.checkpoints import leading_out, step_regex_problem
from sflow_ctl.planner.findings import UnplannableError

_WORDS = {
    "auto": schema.ResumeChoice(),
    "never": schema.ResumeChoice(after=[]),
    "require": schema.ResumeChoice(none_found="fail"),
}


def plan_checkpoint(
    name: str, checkpoint: schema.Checkpoint, evaluate: Callable[[Any], Any], workspace: str
) -> CheckpointRules:
    """Return the rules. `name` is the task's; a relative start is in the workspace. Raises: UnplannableError, ExpressionError."""

    def text(value: str, key: str) -> str:
        done = as_text(evaluate(value))
        if not done:
            what = f'task "{name}": {key} of its checkpoint is empty'
            raise UnplannableError(
                "wrong-value", what, f"leave {key} out, or give it a value", ("checkpoint", key)
            )
        return done

    def inside(value: str, key: str) -> str:
        done = text(value, key)
        problem = leading_out(done, may_be_here=key == "dir")
        if problem is not None:
            what = f'task "{name}": {key} "{done}" of its checkpoint {problem}'
            hint = "files from elsewhere are a start, not checkpoints of the task: resume: {from: PATH}"
            raise UnplannableError("unsafe-path", what, hint, ("checkpoint", key))
        return done

    select = text(checkpoint.select, "select")
    step_regex = checkpoint.step_regex
    if step_regex is not None:
        step_regex = text(step_regex, "step_regex")
        problem = step_regex_problem(step_regex)
        if problem is not None:
            what = f'task "{name}": step_regex "{step_regex}" of its checkpoint {problem}'
            raise UnplannableError("wrong-pattern", what, None, ("checkpoint", "step_regex"))
    resume, inject = _resume(checkpoint, evaluate), checkpoint.inject
    if isinstance(inject, str):
        inject = schema.CheckpointInjection(env=inject)
    start = None if resume.start is None else text(resume.start, "resume")
    if start is not None and not start.startswith("/"):
        start = f"{workspace}/{start.removeprefix('./')}"
    return CheckpointRules(
        directory=_normal(inside(checkpoint.dir, "dir")) or ".",
        selection=FileSelection(
            globs=tuple(inside(glob, "globs") for glob in checkpoint.globs or ("**/*",)),
            select=select if select in ("latest", "best") else _normal(inside(select, "select")),
            done_marker=None
            if checkpoint.done_marker is None
            else text(checkpoint.done_marker, "done_marker"),
            step_regex=step_regex,
        ),
        state_file=None
        if checkpoint.state_file is None
        else _normal(inside(checkpoint.state_file, "state_file")),
        start=start,
        after=("retry", "rerun", "resume") if resume.after is None else tuple(resume.after),
        must_exist=resume.none_found == "fail",
        starts_anew_if_ambiguous=resume.ambiguous == "fresh",
        variable=text(inject.env, "inject"),
        argument=None if inject.arg is None else text(inject.arg, "inject"),
    )


def _resume(checkpoint: schema.Checkpoint, evaluate: Callable[[Any], Any]) -> schema.ResumeChoice:
    resume = checkpoint.resume
    if not isinstance(resume, str):
        return resume
    word = as_text(evaluate(resume))
    return _WORDS.get(word) or schema.ResumeChoice(start=word)


def _normal(path: str) -> str:
    """Return a path without dots and double slashes."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))

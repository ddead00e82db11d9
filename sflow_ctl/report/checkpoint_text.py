"""Sentences about what attempts continue from, for the log, `status --verbose` and `explain`. Pure."""

from collections.abc import Iterator, Sequence

from protocol.messages.handover import CheckpointChoice
from protocol.text.counted import counted
from protocol.text.listing import listed

SHOWN = 4


def choice_text(task: str, attempt: int, choice: CheckpointChoice) -> str:
    """Return the sentence about one attempt."""
    return f"{task}#{attempt} {continues_text(choice)}"


def continues_text(choice: CheckpointChoice) -> str:
    """Return the sentence without its subject."""
    if not choice.path:
        return f"does not start: {choice.problem}" if choice.problem else f"begins anew: {choice.why}"
    kind = "epoch" if choice.rule == "epoch" else "step"
    step = "" if choice.step is None else f" ({kind} {choice.step})"
    return f"continues from {choice.path}{step}: {choice.why}"


def choice_lines(task: str, choices: Sequence[tuple[int, CheckpointChoice]]) -> Iterator[str]:
    """Yield the lines about a task for `status --verbose`."""
    for attempt, choice in choices:
        yield choice_text(task, attempt, choice)
        yield from (f"  {text}" for text in passed_over(choice))


def passed_over(choice: CheckpointChoice) -> list[str]:
    """Return what else was there, each as a sentence."""
    if choice.rule == "ambiguous" or not choice.other_count:
        return [*choice.notes]
    left = choice.other_count - min(len(choice.others), SHOWN)
    names = listed(choice.others[:SHOWN], SHOWN)
    more = f" and {left} more" if left else ""
    return [f"{counted(choice.other_count, 'other')} there: {names}{more}", *choice.notes]

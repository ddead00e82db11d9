"""What the uploads of a task come to, of all of its nodes. Pure; `actions.uploads` calls it."""

from collections.abc import Sequence

from protocol.messages.uploads import UploadOutcome, UploadProblem, limited


def merged(outcomes: Sequence[UploadOutcome]) -> UploadOutcome:
    """Return one outcome of several nodes'. A pattern without files is a problem only where no node has any.

    Nodes that have uploaded to the same address have replaced each other's file: that is a problem, too.
    """
    if len(outcomes) == 1:
        return limited(outcomes[0])
    absent: list[set[int | None]] = [
        {one.missing for one in outcome.problems if one.missing is not None} for outcome in outcomes
    ]
    everywhere = set[int | None]().union(*absent).intersection(*absent)
    problems: list[UploadProblem] = []
    seen: set[int | None] = set()
    for outcome in outcomes:
        for problem in outcome.problems:
            if problem.missing is None or (problem.missing in everywhere and problem.missing not in seen):
                problems.append(problem)
            seen.add(problem.missing)
    files = [file for outcome in outcomes for file in outcome.files]
    addresses = [file.address for file in files]
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    problems += [
        UploadProblem(text=f"several nodes have uploaded {one}: the file of the last one is there")
        for one in twice
    ]
    return limited(
        UploadOutcome(
            files=tuple(files),
            count=sum(outcome.count for outcome in outcomes),
            bytes=sum(outcome.bytes for outcome in outcomes),
            problems=tuple(problems),
            further_problems=sum(outcome.further_problems for outcome in outcomes),
        )
    )


def failure(outcome: UploadOutcome) -> str:
    """Return the first problem with an upload that must succeed; empty if there is none."""
    return next((one.text for one in outcome.problems if one.is_failure), "")

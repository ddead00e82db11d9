"""One outcome of the uploads of several nodes."""

from protocol.messages.uploads import (
    MAX_LISTED_FILES,
    MAX_LISTED_PROBLEMS,
    UploadedFile,
    UploadOutcome,
    UploadProblem,
    limited,
)
from sflow_ctl.core.policy.upload_outcomes import failure, merged
from sflow_ctl.report.upload_text import outcome_text, problem_texts


def uploaded(*addresses: str) -> UploadOutcome:
    files = tuple(UploadedFile(path="x", address=address, bytes=2_000) for address in addresses)
    return UploadOutcome(files=files, count=len(files), bytes=2_000 * len(files))


def missing(*indices: int) -> UploadOutcome:
    return UploadOutcome(
        problems=tuple(UploadProblem(text=f"{index} is missing", missing=index) for index in indices)
    )


def test_a_pattern_is_missing_only_where_no_node_has_it() -> None:
    both = merged([missing(0, 1), missing(1, 2)])
    assert [one.text for one in both.problems] == ["1 is missing"]
    assert merged([missing(0), uploaded("/a")]).problems == ()


def test_nodes_that_replace_each_others_files_are_a_problem() -> None:
    both = merged([uploaded("/a", "/b"), uploaded("/a")])
    assert (both.count, both.bytes) == (3, 6_000)
    assert [one.text for one in both.problems] == [
        "several nodes have uploaded /a: the file of the last one is there"
    ]


def test_a_failure_is_listed_before_all_warnings() -> None:
    warnings = tuple(UploadProblem(text=f"w{index}") for index in range(MAX_LISTED_PROBLEMS + 5))
    whole = limited(UploadOutcome(problems=(*warnings, UploadProblem(text="f" * 900, is_failure=True))))
    assert len(whole.problems) == MAX_LISTED_PROBLEMS
    assert failure(whole) == "f" * 500
    assert whole.further_problems == 6
    assert problem_texts(whole)[-1] == "and 6 more problems"
    assert failure(UploadOutcome(problems=warnings)) == ""


def test_of_many_files_the_first_are_listed_and_all_are_counted() -> None:
    whole = limited(uploaded(*(f"/{index}" for index in range(MAX_LISTED_FILES + 1))))
    assert (len(whole.files), whole.count) == (MAX_LISTED_FILES, MAX_LISTED_FILES + 1)


def test_one_line_says_how_much_went_where() -> None:
    assert outcome_text(UploadOutcome()) == ""
    assert outcome_text(uploaded("s3://b/x/a")) == "uploaded 1 file (2 kB) to s3://b/x/a"
    assert outcome_text(uploaded("s3://b/x/a", "s3://b/x/y/c")) == "uploaded 2 files (4 kB) to s3://b/x/"
    assert outcome_text(uploaded("s3://b/a", "s3://c/a")) == "uploaded 2 files (4 kB) to 2 folders"
    assert outcome_text(uploaded("/r/a", "/r/b")) == "uploaded 2 files (4 kB) to /r/"

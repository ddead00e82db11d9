"""Words about uploads. Pure."""

from protocol.messages.uploads import UploadOutcome
from protocol.text.counted import counted
from protocol.text.sizes import size_text


def outcome_text(outcome: UploadOutcome) -> str:
    """Return `uploaded 3 files (1.2 MB) to s3://BUCKET/runs/7/`; empty if nothing was uploaded."""
    if not outcome.count:
        return ""
    addresses = [file.address for file in outcome.files]
    where = f" to {_common(addresses)}" if addresses else ""
    return f"uploaded {counted(outcome.count, 'file')} ({size_text(outcome.bytes)}){where}"


def problem_texts(outcome: UploadOutcome) -> list[str]:
    """Return what was not uploaded, as sentences."""
    texts = [problem.text for problem in outcome.problems]
    if outcome.further_problems:
        texts.append(f"and {counted(outcome.further_problems, 'more problem')}")
    return texts


def _common(addresses: list[str]) -> str:
    """Return the folder that all addresses are in, or the only address."""
    if len(addresses) == 1:
        return addresses[0]
    parts = [address.split("/")[:-1] for address in addresses]
    shared = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return (
        "/".join(shared) + "/"
        if len(shared) > 2 or shared[:1] == [""]
        else f"{len(set(map(tuple, parts)))} folders"
    )

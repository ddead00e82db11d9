"""A separate process that downloads one snapshot with the hub's own library: `python -I -m ... REQUEST`.

The library has threads that cannot be stopped, prints to the terminal, and takes half a second to import: a
process can be killed, and only runs that need it pay for it. Lines of JSON on stdout report progress and the
result.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from sflow_ctl.runtime.artifacts.child_process import ChildReport, end_with_parent, say

_LOGIN = "set HF_TOKEN to a token that may read it, or log in with `hf auth login`"
_NETWORK = "check the network, HF_ENDPOINT and HF_HUB_OFFLINE; complete files are kept"

_QUOTED = 400
"""The number of characters quoted from the library's messages, which are long."""


class DownloadRequest(msgspec.Struct, frozen=True):
    """The snapshot to download. `inside` is a file or directory of the repository, or empty."""

    repo: str
    repo_type: str
    revision: str | None
    inside: str


def main() -> None:
    """End with the process that started it, which holds the other end of stdin."""
    end_with_parent()
    request = msgspec.json.decode(sys.argv[1], type=DownloadRequest)
    say(_get(request))
    os._exit(0)  # the interpreter would wait for the library's threads


def _get(request: DownloadRequest) -> ChildReport:
    try:
        import huggingface_hub
    except ImportError:
        cause = "the package huggingface_hub is not installed"
        return ChildReport(
            cause=cause, hint="pip install 'sflow-ctl[hf]', or download it beforehand and use fs://PATH"
        )
    patterns = [request.inside, f"{request.inside}/*"] if request.inside else None
    try:
        snapshot = huggingface_hub.snapshot_download(
            request.repo,
            repo_type=request.repo_type,
            revision=request.revision,
            allow_patterns=patterns and [_literal(pattern) for pattern in patterns],
            tqdm_class=_bar(),
            library_name="sflow-ctl",
        )
    except Exception as error:  # noqa: BLE001 - the edge of this process: whatever a library raises is the answer
        return _explain(error, request)
    if not (Path(snapshot) / request.inside).exists():
        what = f"{request.repo} has no {request.inside}"
        return ChildReport(
            cause=what, hint="correct the path in the URI; with HF_HUB_OFFLINE=1 only cached files exist"
        )
    return _checked(snapshot, request)


def _checked(snapshot: str, request: DownloadRequest) -> ChildReport:
    """Compare a snapshot with the hub's list of files: without the hub, the library returns whatever its cache has."""
    from huggingface_hub import HfApi

    try:
        files = HfApi(library_name="sflow-ctl").list_repo_files(
            request.repo, repo_type=request.repo_type, revision=Path(snapshot).name
        )
    except Exception as error:  # noqa: BLE001 - the edge of this process: whatever a library raises is the answer
        said = " ".join(str(error).split())[:_QUOTED] or type(error).__name__
        return ChildReport(place=snapshot, unchecked=said)
    inside = request.inside
    wanted = [name for name in files if not inside or name == inside or name.startswith(f"{inside}/")]
    missing = [name for name in wanted if not (Path(snapshot) / name).exists()]
    if missing:
        cause = (
            f"{len(missing)} of {len(wanted)} files of {request.repo} are missing in {snapshot}: {missing[0]}"
        )
        return ChildReport(cause=cause, hint=_NETWORK)
    return ChildReport(place=snapshot)


def _literal(pattern: str) -> str:
    """Return a path as a pattern that matches only it, except for the star at its end."""
    rest = pattern.removesuffix("/*")
    return "".join(f"[{c}]" if c in "*?[" else c for c in rest) + pattern[len(rest) :]


def _bar() -> Any:
    """Return a progress bar class, which is how the library reports progress."""
    from tqdm.std import tqdm

    class Reporting(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "file": _Nowhere(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            changed: bool | None = super().update(n)
            if self.unit == "B":
                say(ChildReport(received_bytes=int(self.n), total_bytes=int(self.total or 0)))
            return changed

    return Reporting


class _Nowhere:
    def write(self, _text: str) -> None:
        """Discard the text of the bar."""

    def flush(self) -> None:
        """Do nothing: no text is kept."""


def _explain(error: Exception, request: DownloadRequest) -> ChildReport:
    from huggingface_hub import errors

    said = " ".join(str(error).split())[:_QUOTED] or type(error).__name__
    name = f"{request.repo_type} {request.repo}"
    match error:
        case errors.GatedRepoError():
            return ChildReport(
                cause=f"{name} is gated: {said}", hint=f"request access on its page, then {_LOGIN}"
            )
        case errors.RepositoryNotFoundError():
            return ChildReport(cause=f"{name} does not exist, or is private: {said}", hint=_LOGIN)
        case errors.RevisionNotFoundError():
            return ChildReport(
                cause=f"{name} has no revision {request.revision}", hint="correct the revision after the @"
            )
        case errors.LocalEntryNotFoundError():
            return ChildReport(cause=said, hint=_NETWORK)
        case errors.HFValidationError():
            return ChildReport(cause=said, hint="write hf://ORG/NAME[@REVISION][/PATH]")
        case _:
            return ChildReport(cause=f"{type(error).__name__}: {said}", hint=_NETWORK)


if __name__ == "__main__":
    main()

"""Fetches in this process, with short limits, and records the progress shown."""

import copy
from collections.abc import Sequence
from pathlib import Path

from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.phases.fetches import plan_fetch
from sflow_ctl.runtime.artifacts.fetching import fetch_artifacts
from sflow_ctl.runtime.artifacts.transfer import Patience, Progress

HASTY = Patience(stall_s=0.3, tries=3, first_wait_s=0.01)


class Shown:
    """A display that remembers."""

    def __init__(self) -> None:
        self.items: list[list[Progress]] = []
        self.is_closed = False

    def show(self, items: Sequence[Progress]) -> None:
        self.items.append([copy.copy(item) for item in items])

    def close(self) -> None:
        self.is_closed = True


def fetch(
    workspace: Path, uris: dict[str, str], *, sha256: str | None = None, patience: Patience = HASTY
) -> tuple[dict[str, Path], list[Progress]]:
    """(artifact to its path, how each came). Raises: ArtifactError."""
    planned = {
        name: plan_fetch(name, uri, sha256, str(workspace), f"w.yaml:1  {name}") for name, uri in uris.items()
    }
    known = {name: one for name, one in planned.items() if one is not None}
    plan = Plan(workflow="w", nodes=(), tasks=(), fetches=tuple(fetch for _, fetch in known.values()))
    came = fetch_artifacts(plan, Shown, patience)
    return {name: Path(path) for name, (path, _) in known.items()}, came


def parts(workspace: Path) -> list[Path]:
    """Return the files of incomplete downloads."""
    return sorted((workspace / ".sflow_cache" / "artifacts").glob(".*"))


def cached(workspace: Path) -> list[str]:
    """Names that count as cached."""
    directory = workspace / ".sflow_cache" / "artifacts"
    return sorted(path.name for path in directory.glob("*") if not path.name.startswith("."))

"""Finds workflow files among files, directories and patterns."""

import glob
from collections.abc import Sequence
from pathlib import Path

from protocol.errors import ExitStatus, FleetError, UsageError
from sflow_ctl.format.yaml_source import read_source


class NoWorkflowError(FleetError):
    """There is no workflow file to make jobs of."""

    exit_status = ExitStatus.RUN_FAILED


def find_workflow_files(places: Sequence[str]) -> list[Path]:
    """Return the files that are a mapping with a `version`, sorted, each once.

    A directory contributes its `.yaml` and `.yml`. A path that does not exist is an error; a file that is not
    a workflow is left out, but one that is not even YAML is kept, so that its job fails instead of being
    forgotten.

    Raises: UsageError, NoWorkflowError.
    """
    found: set[Path] = set()
    for place in places:
        path = Path(place)
        if path.is_dir():
            found.update(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        elif path.exists():
            found.add(path)
        else:
            matches = [Path(match) for match in glob.glob(place, recursive=True)]  # noqa: PTH207 - may be absolute
            if not matches:
                raise UsageError.of("file-not-found", f"{place} does not exist", place, "correct the path")
            found.update(match for match in matches if match.is_file())
    kept: dict[Path, Path] = {}
    for file in sorted(found):
        if _is_workflow(file):
            kept.setdefault(file.resolve(), file)
    if not kept:
        where = ", ".join(places)
        hint = 'a workflow file begins with version: "0.1"'
        raise NoWorkflowError.of("no-workflow-files", f"no workflow file in {where}", where, hint)
    return list(kept.values())


def _is_workflow(file: Path) -> bool:
    source, _ = read_source(file)
    return source is None or (isinstance(source.data, dict) and "version" in source.data)

"""The registry of models of slurmforge 0.x: names and their scripts."""

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sflow_ctl.format.slurmforge.given import Given
from sflow_ctl.format.yaml_source import value_of


def models(given: Given, read: Callable[[str], str | None]) -> dict[str, str]:
    """Return the script of each model, relative to the project. What is not found becomes a note."""
    found: dict[str, str] = {}
    file = given.at("model_registry", "registry_file")
    if file is not None:
        text = read(str(file))
        listed = _listed(text)
        if listed is None:
            given.leave(
                "it cannot be read here: write the script of the model into the task",
                "model_registry",
                "registry_file",
            )
        for name, script in listed or ():
            found[name] = (
                script if script.startswith("/") else posixpath.join(posixpath.dirname(str(file)), script)
            )
    for entry in given.at("model_registry", "extra_models", default=[]):
        if isinstance(entry, dict) and entry.get("script"):
            found[str(entry.get("name"))] = str(entry["script"])
    return found


def is_registry(data: Any) -> bool:
    """Return whether a file is a registry of models, not an experiment."""
    return isinstance(data, dict) and list(data) == ["models"]


def _listed(text: str | None) -> list[tuple[str, str]] | None:
    try:
        data = value_of(text) if text is not None else None
    except ValueError:
        return None
    if data is None or not is_registry(data):
        return None
    entries = [one for one in data["models"] or () if isinstance(one, dict)]
    return [(str(one.get("name")), str(Path(str(one["script"])))) for one in entries if one.get("script")]

"""Which tasks of a plan use an artifact: by what their texts name, its path or a variable that holds it. Pure.

`planner/phases/artifact_use.py` finds the same in a workflow file, before anything is evaluated.
"""

import posixpath
import re
from collections.abc import Iterator

import msgspec

from sflow_ctl.plan.model import Plan, PlannedTask


def inline_contents(plan: Plan) -> dict[str, str]:
    """Return the texts of the artifacts that the workflow file itself holds, by the artifact's absolute path."""
    root = plan.tasks[0].env.get("SFLOW_WORKFLOW_OUTPUT_DIR", "/") if plan.tasks else "/"
    return {posixpath.normpath(posixpath.join(root, path)): text for path, text in plan.files}


MISSING = "missing"
UNREADABLE = "not readable"
"""What `runtime/artifacts/contents.py` writes of a content that it cannot look at."""


class PlannedArtifactUse:
    """Which tasks of one plan use which of its artifacts.

    A task uses those that it mentions. One that no task mentions may still be read by any of them: every task has its
    path in its environment.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.inline = inline_contents(plan)
        """Texts of the artifacts that the workflow file itself holds, by path."""
        self._is_mentioned: dict[str, bool] = {}

    def uses(self, task: PlannedTask, artifact: str) -> bool:
        """Return whether the result of a task may depend on an artifact."""
        if self._mentions(task, artifact):
            return True
        if artifact not in self._is_mentioned:
            self._is_mentioned[artifact] = any(self._mentions(other, artifact) for other in self.plan.tasks)
        return not self._is_mentioned[artifact]

    def content(self, artifact: str) -> str | None:
        """Return what stands for the content of an artifact; None if nothing is known of it."""
        return self.inline.get(self.plan.artifacts[artifact], self.plan.contents.get(artifact))

    def has_content(self, artifact: str, other: "PlannedArtifactUse") -> bool:
        """Return whether an artifact has, as far as is known here, the content that it had in an older plan.

        Where it cannot be looked at now, on another host perhaps, it counts as unchanged.
        """
        now = self.content(artifact)
        return now in (None, MISSING, UNREADABLE) or now == other.content(artifact)

    def _mentions(self, task: PlannedTask, artifact: str) -> bool:
        """Return whether the texts of a task name an artifact, or another one whose content names it."""
        texts = list(texts_of(task))
        wanted, seen = [artifact], {artifact}
        while wanted:
            name = wanted.pop()
            path = self.plan.artifacts[name]
            words = [name, *(key for key, value in task.env.items() if path and path in value)]
            pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)")
            if any(pattern.search(text) or (path and path in text) for text in texts):
                return True
            for other, other_path in self.plan.artifacts.items():
                content = self.inline.get(other_path, "")
                if other not in seen and content and (pattern.search(content) or path in content):
                    seen.add(other)
                    wanted.append(other)
        return False


def texts_of(task: PlannedTask) -> Iterator[str]:
    """Yield the texts of a task that may name a variable or a path."""
    container = task.container
    parts = (
        task.script,
        task.argv,
        task.cwd,
        task.probes,
        task.success,
        task.deferred,
        None if container is None else msgspec.structs.replace(container, directories=()),
        [(file.path, file.content) for file in task.files],
    )
    yield from strings_in(msgspec.to_builtins(parts, enc_hook=str))


def strings_in(value: object) -> Iterator[str]:
    """Yield every text in a value of mappings and lists, keys excepted."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_in(item)

"""The probe `file_has`: a file of the task has some text in it."""

from pathlib import Path


class FileHas:
    """Checks with grep, on the task's node."""

    def command(self, instance):
        """Return the command of the check. `options`: {path: ..., text: ...}; a relative path is in the task's folder."""
        missing = [name for name in ("path", "text") if name not in instance.options]
        if missing:
            raise ValueError(f"options lack {' and '.join(missing)}")
        path = Path(instance.env["SFLOW_TASK_OUTPUT_DIR"]) / str(instance.options["path"])
        return ["grep", "-qF", "-e", str(instance.options["text"]), "--", str(path)]

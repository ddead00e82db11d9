"""The templates of `init`: small commented workflows to begin with. For examples of what is possible there is `samples.py`."""

from pathlib import Path

from protocol.errors import UsageError
from sflow_ctl.format.checking import guess_hint

_HOME = Path(__file__).resolve().parents[2] / "templates"
DEFAULT = "serve-and-bench"
SCHEMA_FILE = ".sflow.schema.json"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
"""For editors with the YAML language server: hints, completion and checks while one types."""


def templates() -> dict[str, str]:
    """Return the first line of each template, without its mark, by name."""
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for path in sorted(_HOME.glob("*.yaml"))
    }


def template_text(name: str) -> str:
    """Return a template's text. Raises: UsageError."""
    known = templates()
    if name not in known:
        hint = guess_hint(name, list(known), f"templates are {', '.join(known)}")
        raise UsageError.of("unknown-template", f'there is no template "{name}"', hint=hint)
    return (_HOME / f"{name}.yaml").read_text(encoding="utf-8")


def write_new_file(path: Path, text: str, *, is_forced: bool) -> None:
    """Write a file that is not there yet, in a directory that is made if need be. Raises: UsageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if is_forced else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        hint = "replace it with --force, or use -o OUT"
        raise UsageError.of("file-exists", f"{path} exists already", str(path), hint) from error
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        raise UsageError.of("file-not-writable", what, str(path), "use -o OUT") from error

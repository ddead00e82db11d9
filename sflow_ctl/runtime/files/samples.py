"""The example workflows that come with the program, wherever it is installed."""

from pathlib import Path

from msgspec import Struct

from protocol.errors import ExitStatus, FleetError
from sflow_ctl.format.checking import nearest

_PACKAGE = Path(__file__).resolve().parents[2]
_HOMES = (_PACKAGE / "samples", _PACKAGE.parent / "examples")
"""The samples of an installation, and those of a checkout, from which the build makes the former."""


class SampleError(FleetError):
    """There is no such sample, or its copy would replace a file."""

    exit_status = ExitStatus.USAGE


class Sample(Struct, frozen=True):
    """An example: `name` is that of its file without the ending, `about` its first comment line."""

    name: str
    about: str
    text: str


def samples() -> list[Sample]:
    """Return all samples, by name."""
    home = next((home for home in _HOMES if home.is_dir()), None)
    if home is None:
        raise SampleError.of(
            "no-samples", "this installation has no samples", str(_HOMES[0]), "reinstall the package"
        )
    return [
        _sample(path.relative_to(home).with_suffix("").as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(home.glob("*.yaml"))
    ]


def find_sample(name: str) -> Sample:
    """Return the sample of that name, with or without `.yaml`. Raises: SampleError."""
    known = {sample.name: sample for sample in samples()}
    wanted = name.removesuffix(".yaml")
    if wanted not in known:
        guess = nearest(wanted, list(known))
        listed = "available samples: " + ", ".join(known)
        hint = f'did you mean "{guess}"? {listed}' if guess else listed
        raise SampleError.of("unknown-sample", f'there is no sample "{name}"', hint=hint)
    return known[wanted]


def copy_sample(sample: Sample, path: Path, is_forced: bool) -> None:
    """Write a sample to a file, in a directory that is made if need be. Raises: SampleError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if is_forced else "x", encoding="utf-8") as file:
            file.write(sample.text)
    except FileExistsError as error:
        raise SampleError.of(
            "file-exists", f"{path} exists already", str(path), "replace it with --force, or use -o OUT"
        ) from error
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        raise SampleError.of("file-not-writable", what, str(path), "use -o OUT") from error


def _sample(name: str, text: str) -> Sample:
    first = text.partition("\n")[0]
    return Sample(name, first.removeprefix("#").strip() if first.startswith("#") else "", text)

"""Names of jobs and of their files, made from a sheet's rows or from files: valid everywhere, and unique."""

from collections.abc import Sequence
from pathlib import PurePath

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.batch.sheet import JOB_NAME, NODE_COLUMNS, RESERVED, Row, Sheet

MAX_LENGTH = 30
_UNSAFE = lazy_pattern(r"[^A-Za-z0-9_-]")
_UNDERSCORES = lazy_pattern(r"_{2,}")


def safe_name(text: str) -> str:
    """Return at most 30 letters, digits, `_` and `-`; never empty, and never an option."""
    name = _UNDERSCORES.sub("_", _UNSAFE.sub("_", text))[:MAX_LENGTH].strip("_-")
    return name or "job"


def row_name(sheet: Sheet, row: Row, nodes: int | None, default: str) -> str:
    """Return a name from the cells that tell the row from others, and its number: `decode_2n_fp8_003`.

    `nodes` is its number of nodes, if known.
    """
    given = row.cells.get(JOB_NAME)
    words = [given] if given else _distinct_words(sheet, row, nodes)
    return f"{safe_name('_'.join(words) or default)}_{row.number:03d}"


def _distinct_words(sheet: Sheet, row: Row, nodes: int | None) -> list[str]:
    in_all = set(sheet.rows[0].files).intersection(*(other.files for other in sheet.rows))
    parts = [_stem(file) for file in row.files if file not in in_all]
    if nodes is not None:
        parts.append(f"{nodes}n")
    for column in sheet.columns:
        if column in RESERVED or column in NODE_COLUMNS:
            continue
        values = {other.cells[column] for other in sheet.rows}
        if len(values) > 1 and not any("/" in value for value in values):
            parts.append(row.cells[column])
    words = [word for part in parts for word in _UNSAFE.sub("_", part).split("_") if word]
    return list(dict.fromkeys(words))


def _stem(file: str) -> str:
    path = PurePath(file)
    folders = () if path.is_absolute() else path.parent.parts
    return "_".join([*(folder for folder in folders if folder != ".."), path.stem])


def unique_names(texts: Sequence[str]) -> list[str]:
    """Return a safe name for each, no two the same, also where a file system ignores case.

    The first of equal ones stays unchanged.
    """
    wanted = [safe_name(text) for text in texts]
    taken: set[str] = set()
    reserved = {name.lower() for name in wanted}
    result = []
    for name in wanted:
        unique, count = name, 1
        while unique.lower() in taken or (count > 1 and unique.lower() in reserved):
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique.lower())
        result.append(unique)
    return result

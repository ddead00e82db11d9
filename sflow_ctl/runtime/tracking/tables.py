"""Exports runs as one table: CSV, or Parquet with pyarrow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sflow_ctl.results.table import results_csv
from sflow_ctl.results.task_entries import TaskEntry, export_rows
from sflow_ctl.runtime.tracking.extras import needed


def write_csv(entries: Sequence[TaskEntry], path: Path) -> int:
    """Write a row for each of these tasks; return how many. Raises: OSError."""
    columns, rows = export_rows(entries)
    path.write_text(results_csv(columns, rows), encoding="utf-8")
    return len(rows)


def write_parquet(entries: Sequence[TaskEntry], path: Path) -> int:
    """Write the same table as Parquet, numbers as numbers; return the count of rows. Raises: UsageError, OSError."""
    pyarrow = needed("pyarrow", "parquet")
    parquet = needed("pyarrow.parquet", "parquet")
    columns, rows = export_rows(entries)
    table = pyarrow.table({name: _column([row[index] for row in rows]) for index, name in enumerate(columns)})
    parquet.write_table(table, path)
    return len(rows)


def _column(values: Sequence[Any]) -> Sequence[Any]:
    """Return a column that has one type: numbers, true and false, or texts, of which lists and mappings are JSON."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in known) or all(isinstance(value, str) for value in known):
        return values
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        is_whole = all(isinstance(value, int) and abs(value) < 1 << 63 for value in known)
        return values if is_whole else [None if value is None else float(value) for value in values]
    return [
        value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
        for value in values
    ]

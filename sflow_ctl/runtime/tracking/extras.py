"""Libraries that only some exports need."""

import importlib
from typing import Any

from protocol.errors import UsageError


def needed(module: str, extra: str) -> Any:
    """Return a module of an extra of this package. Raises: UsageError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"export --to {extra} needs {module.partition('.')[0]}, which cannot be imported here: {error}"
        raise UsageError.of("missing-extra", what, hint=f"pip install 'sflow-ctl[{extra}]'") from error

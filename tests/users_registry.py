"""Watches the registry of the user who runs the tests: a test whose run is remembered there fails.

A run adds its link in a thread, so one that comes late fails the next test of the session.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sflow_ctl.runtime.catalog.registry import registry_directory


class UsersRegistry:
    """The registry as it was when the tests began."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._directory = registry_directory(environ)
        self._looked_at_ns = self._changed_ns()

    def check(self, base: Path) -> None:
        """Remove the links to runs below `base`, and fail if there are any. One look if the registry has not changed."""
        changed_ns = self._changed_ns()
        if changed_ns == self._looked_at_ns:
            return
        self._looked_at_ns = changed_ns
        found = {link: target for link, target in self._links() if target.startswith(f"{base}/")}
        for link in found:
            Path(link).unlink(missing_ok=True)
        assert not found, (
            f"these runs of tests are in the user's registry, {self._directory}: {sorted(found.values())}; "
            "give their process XDG_STATE_HOME"
        )

    def _links(self) -> list[tuple[str, str]]:
        links = []
        with suppress(OSError):
            for link in os.scandir(self._directory):
                with suppress(OSError):
                    links.append((link.path, str(Path(link.path).readlink())))
        return links

    def _changed_ns(self) -> int:
        try:
            return self._directory.stat().st_mtime_ns
        except OSError:
            return 0

"""A file server for a test, and plans that fetch from it."""

from collections.abc import Iterator

import pytest

from tests.integration.artifacts.file_server import FileServer


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no proxy for the loopback."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    """One that ends with the test."""
    made = FileServer()
    yield made
    made.close()

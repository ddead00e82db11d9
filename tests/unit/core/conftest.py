"""Looks after each test of the scheduler whether it has ignored a command that it should have expected."""

from collections.abc import Iterator

import pytest

from tests.unit.core.driver import Driver


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    Driver.drivers.clear()
    yield
    for driver in Driver.drivers:
        driver.check_nothing_ignored()
    Driver.drivers.clear()

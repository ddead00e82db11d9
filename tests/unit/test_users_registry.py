"""Runs of tests stay out of the registry of the user who runs the tests."""

import os
from pathlib import Path

import pytest

from sflow_ctl.runtime.catalog.registry import registry_directory
from tests.conftest import USERS_REGISTRY
from tests.users_registry import UsersRegistry


@pytest.fixture(scope="module")
def of_the_module() -> Path:
    """Where a run of a fixture for several tests is remembered."""
    return registry_directory(os.environ)


def test_each_test_and_the_fixtures_of_modules_have_registries_of_their_own(of_the_module: Path) -> None:
    own = registry_directory(os.environ)
    assert len({USERS_REGISTRY._directory, of_the_module, own}) == 3


def test_a_run_of_a_test_in_the_users_registry_is_an_error(tmp_path: Path) -> None:
    base, home = tmp_path / "tests", tmp_path / "home"
    registry = home / "sflow/runs"
    registry.mkdir(parents=True)
    (registry / "own.1").symlink_to("/data/own")
    users = UsersRegistry({"XDG_STATE_HOME": str(home)})
    (registry / "own.2").symlink_to("/data/other")
    (registry / "no-link").write_text("")
    users.check(base)
    (registry / "r.3").symlink_to(base / "test_x0/sflow_output/r")
    with pytest.raises(AssertionError, match=r"test_x0/sflow_output/r.*give their process XDG_STATE_HOME"):
        users.check(base)
    assert sorted(one.name for one in registry.iterdir()) == ["no-link", "own.1", "own.2"]
    users.check(base)


def test_a_user_without_a_registry_is_no_error(tmp_path: Path) -> None:
    users = UsersRegistry({"XDG_STATE_HOME": str(tmp_path)})
    users.check(tmp_path)

"""Shared by all tests: no settings of the machine apply, and GPUs are simulated.

Tests of real GPUs set `SFLOW_SIMULATE_GPUS=0`.
"""

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from sflow_ctl.plan.secrets import SECRETS
from tests.users_registry import UsersRegistry

USERS_REGISTRY = UsersRegistry(os.environ)
os.environ.setdefault("SFLOW_SIMULATE_GPUS", "1")
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # as shells start what is in the background; programs inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("fixed", derandomize=True)
if os.environ.get("CI") == "true":
    hypothesis.settings.load_profile(
        "fixed"
    )  # a change is judged by its own faults; new examples are looked for by hand


@pytest.fixture(autouse=True, scope="session")
def no_settings_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither a site's nor a user's settings change what tests see; runs of fixtures for several tests are remembered here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFLOW_SITE_FILE", "")
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def no_runs_of_other_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test knows runs of this user, or of another test, and this user's registry gets none of theirs.

    The look comes when the test's own patches are undone: it may have replaced what looks at files.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
    USERS_REGISTRY.check(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests() -> Iterator[None]:
    """Forget the secrets of workflows that a test has read in this process."""
    yield
    SECRETS.forget()


LONG = 100_000


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Show where two long texts differ: a full difference of megabytes takes pytest hours."""
    if op != "==" or not isinstance(left, (bytes, str)) or not isinstance(right, (bytes, str)):
        return None
    if type(left) is not type(right) or len(left) + len(right) < LONG:
        return None
    place = next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )
    around = slice(max(0, place - 100), place + 100)
    return [
        f"{len(left)} and {len(right)} long, different from place {place} on",
        f"{left[around]!r}",
        f"{right[around]!r}",
    ]

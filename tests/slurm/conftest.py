"""One Slurm cluster for all tests that need it, whole again before each of them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.record import PREFIX
from tests.slurm.rig import Cluster, reason_for_none
from tests.slurm.settings import Settings


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Cluster]:
    """As the tests before left it."""
    reason = reason_for_none()
    if reason is not None:
        pytest.skip(f"no Slurm cluster can be started here: {reason}")
    cluster = Cluster.start(Settings(), Path(tempfile.mkdtemp(prefix=PREFIX)))
    yield cluster
    cluster.end()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """No jobs, all nodes idle, all links whole."""
    shared_cluster.restore()
    return shared_cluster

"""A server that speaks S3, on loopback: moto's, as a process of its own for all tests of a worker."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import wait_until

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}
_SERVER = """
import sys
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Server:
    """The server, and what is in it."""

    def __init__(self, url: str) -> None:
        import boto3

        self.url = url
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
        )

    def bucket(self, name: str) -> str:
        """Make a bucket; return its name."""
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        """Return the keys in a bucket."""
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]

    def content(self, bucket: str, key: str) -> bytes:
        """Return an object."""
        body: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Start the server; skip where moto is not installed."""
    with started() as one:
        yield one


@pytest.fixture
def strict_server() -> Iterator[Server]:
    """Start a server that knows no access key, once a bucket called `guarded` is made."""
    with started(INITIAL_NO_AUTH_ACTION_COUNT="1") as one:
        one.bucket("guarded")
        yield one


@contextlib.contextmanager
def started(**variables: str) -> Iterator[Server]:
    """Run a server with these variables of moto's."""
    pytest.importorskip("moto.server")
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **variables},
    )
    assert process.stdout is not None
    try:
        line = wait_until(process.stdout.readline, "the port of the server")
        yield Server(f"http://127.0.0.1:{int(line)}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(autouse=True)
def _own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the credentials and settings of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

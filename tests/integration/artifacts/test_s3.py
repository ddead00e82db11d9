"""Objects of a real server that speaks S3, fetched before a run and stored by a plug-in's contract."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from protocol.errors import ArtifactError
from protocol.machine.s3 import S3Error
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.phases.fetches import plan_plugin_fetch
from sflow_ctl.runtime.artifacts.fetching import fetch_artifacts
from sflow_ctl.runtime.artifacts.s3 import S3Scheme
from sflow_ctl.runtime.artifacts.transfer import Progress
from tests.integration.artifacts.fetching import Shown, cached, parts
from tests.integration.uploads.conftest import KEYS, Server, started


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started() as one:
        yield one


@pytest.fixture(autouse=True)
def _service(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point boto3 to the server, with credentials of the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL_S3": server.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def put(server: Server, bucket: str, **objects: bytes) -> None:
    def store(key: str) -> None:
        server.client.put_object(Bucket=bucket, Key=key.replace("__", "/"), Body=objects[key])

    with ThreadPoolExecutor(16) as at_once:
        list(at_once.map(store, objects))


def fetch(workspace: Path, uri: str, sha256: str | None = None) -> tuple[Path, list[Progress]]:
    path, wanted = plan_plugin_fetch("A", uri, sha256, str(workspace), "w.yaml:1  A")
    plan = Plan(workflow="w", nodes=(), tasks=(), fetches=(wanted,))
    return Path(path), fetch_artifacts(plan, Shown)


def cause(workspace: Path, uri: str) -> str:
    with pytest.raises(ArtifactError) as raised:
        fetch(workspace, uri)
    (finding,) = raised.value.findings
    assert finding.hint
    assert cached(workspace) == []
    assert parts(workspace) == []
    return finding.what


def test_an_object_comes_once_and_is_checked(server: Server, tmp_path: Path) -> None:
    body = os.urandom(3_000_000)
    put(server, server.bucket("one"), d__model=body)
    digest = hashlib.sha256(body).hexdigest()
    path, (came,) = fetch(tmp_path, "s3://one/d/model", digest)
    assert path.read_bytes() == body
    assert came.received_bytes == len(body)
    path, (again,) = fetch(tmp_path, "s3://one/d/model", digest)
    assert "is cached" in again.outcome
    assert fetch(tmp_path, "s3://one/d/model") == (path, [])


def test_all_below_a_prefix_beyond_one_page(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket("many")
    put(server, bucket, d__=b"", **{f"d__{index}__f": b"%d" % index for index in range(1003)})
    put(server, bucket, e=b"not this")
    path, _ = fetch(tmp_path, "s3://many/d/")
    files = {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}
    assert files == {f"{index}/f": b"%d" % index for index in range(1003)}


def test_what_is_not_there_is_said(server: Server, tmp_path: Path) -> None:
    put(server, server.bucket("some"), longer=b"x")
    for key in ("long", "nothing/"):
        assert cause(tmp_path, f"s3://some/{key}").endswith(": it does not exist")
    assert "the bucket does not exist (NoSuchBucket)" in cause(tmp_path, "s3://no-such-bucket/x")
    assert "names no bucket" in cause(tmp_path, "s3:///x")


def test_a_key_that_would_leave_the_directory_is_refused(server: Server, tmp_path: Path) -> None:
    server.client.put_object(Bucket=server.bucket("odd"), Key="d/../../x", Body=b"x")
    assert "would be written outside of the directory" in cause(tmp_path, "s3://odd/d/")


def test_without_credentials_it_is_said_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    said = cause(tmp_path, "s3://one/x")
    assert "boto3 finds no credentials" in said


def test_a_server_that_is_down_is_said_without_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setattr("protocol.machine.s3.ATTEMPTS", 1)
    with pytest.raises(S3Error) as raised:
        S3Scheme().exists("s3://one/x")
    assert "127.0.0.1:1" in str(raised.value)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in str(raised.value)


def test_a_file_is_stored_under_its_uri(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket("mine")
    (tmp_path / "f").write_bytes(b"1")
    S3Scheme().push(str(tmp_path / "f"), "s3://mine/r/f%20x")
    assert server.content(bucket, "r/f x") == b"1"
    with pytest.raises(ValueError, match="names no object"):
        S3Scheme().push(str(tmp_path / "f"), "s3://mine/r/")

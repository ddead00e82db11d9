"""The scheme `s3`: objects of a bucket, or all below a prefix. Registered as a plug-in, like those of other packages.

Region, credentials and the service's address are boto3's to find, in its variables and files.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from protocol.machine.s3 import Bucket

FILES_AT_ONCE = 8
_HOW = "s3://BUCKET/KEY, or s3://BUCKET/PREFIX/ for all below it"


class S3Scheme:
    """Gets and puts objects."""

    def fetch(self, uri: str, dest: str) -> None:
        """Download an object to a file, or all objects below a prefix into a directory.

        Raises: S3Error, ValueError, OSError.
        """
        bucket, key = _opened(uri)
        if not _is_prefix(key):
            bucket.ask("download_file", bucket.name, key, dest, Config=bucket.transfer_config)
            return
        root = Path(dest)
        root.mkdir()

        def get(found: str) -> None:
            inside = _inside(root, found[len(key) :])
            inside.parent.mkdir(parents=True, exist_ok=True)
            bucket.ask("download_file", bucket.name, found, str(inside), Config=bucket.transfer_config)

        with ThreadPoolExecutor(FILES_AT_ONCE) as at_once:
            for done in [at_once.submit(get, found) for found in _keys(bucket, key)]:
                done.result()

    def exists(self, uri: str) -> bool:
        """Return whether there is such an object, or any below the prefix. Raises: S3Error, ValueError."""
        bucket, key = _opened(uri)
        if _is_prefix(key):
            return next(_keys(bucket, key), None) is not None
        answer = bucket.ask("list_objects_v2", Bucket=bucket.name, Prefix=key, MaxKeys=1)
        return any(one["Key"] == key for one in answer.get("Contents", ()))

    def push(self, path: str, uri: str) -> None:
        """Upload a file. Raises: S3Error, ValueError, OSError."""
        bucket, key = _opened(uri)
        if _is_prefix(key):
            raise ValueError(f"{uri} names no object: s3://BUCKET/KEY")
        bucket.ask("upload_file", path, bucket.name, key, Config=bucket.transfer_config)


def _opened(uri: str) -> tuple[Bucket, str]:
    """Return the bucket and the key. Raises: S3Error, ValueError."""
    name, _, key = uri.partition("://")[2].partition("/")
    if not name:
        raise ValueError(f"{uri} names no bucket: {_HOW}")
    return Bucket(name), unquote(key)


def _is_prefix(key: str) -> bool:
    return not key or key.endswith("/")


def _keys(bucket: Bucket, prefix: str) -> Iterator[str]:
    """Yield the keys below a prefix that name something; some tools make an empty object for a folder. Raises: S3Error."""
    more: dict[str, Any] = {}
    while True:
        answer = bucket.ask("list_objects_v2", Bucket=bucket.name, Prefix=prefix, **more)
        yield from (one["Key"] for one in answer.get("Contents", ()) if not one["Key"].endswith("/"))
        if not answer.get("IsTruncated"):
            return
        more = {"ContinuationToken": answer["NextContinuationToken"]}


def _inside(root: Path, name: str) -> Path:
    """Return where a key is put. Raises: ValueError for one that would leave the directory."""
    path = root / name.lstrip("/")
    if ".." in path.parts:
        raise ValueError(f'the key "{name}" would be written outside of the directory')
    return path

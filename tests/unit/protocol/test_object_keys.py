"""The names of uploaded files: prefix, folder, name and label, for any text; nothing leaves its folder."""

import posixpath

import hypothesis
import pytest
from hypothesis import strategies as st

from protocol.messages.uploads import StorageTarget
from protocol.text.object_keys import MAX_KEY_BYTES, KeyRefusedError, address, object_key

BUCKET = StorageTarget(name="res", type="s3", bucket="bucket", prefix="runs/7/")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)
FOLDERS = st.lists(NAMES, max_size=3).map("/".join)


def bucket(prefix: str) -> StorageTarget:
    return StorageTarget(name="res", type="s3", bucket="bucket", prefix=prefix)


@pytest.mark.parametrize(
    ("prefix", "to", "label", "key"),
    [
        ("runs/7/", "", "", "runs/7/a.txt"),
        ("runs/7", "", "", "runs/7/a.txt"),
        ("", "", "", "a.txt"),
        ("runs/7/", "x/", "", "runs/7/x/a.txt"),
        ("runs/7/", "/x/", "", "runs/7/x/a.txt"),
        ("runs/7/", "x/b.csv", "", "runs/7/x/b.csv"),
        ("runs/7/", "", "r_0", "runs/7/a_r_0.txt"),
        ("", "x/b.tar.gz", "r_1", "x/b.tar_r_1.gz"),
        ("", "x/Makefile", "r_1", "x/Makefile_r_1"),
        ("", "x/.hidden", "r_1", "x/.hidden_r_1"),
    ],
)
def test_a_key_is_prefix_folder_name_and_label(prefix: str, to: str, label: str, key: str) -> None:
    assert object_key(bucket(prefix), to, "/run/t/a.txt", label) == key


@pytest.mark.parametrize("to", ["../x", "x/../../y", "x/../", "..", "a/..", "/..", "./../x/"])
def test_two_dots_are_refused_wherever_they_are(to: str) -> None:
    with pytest.raises(KeyRefusedError, match=r"\.\."):
        object_key(BUCKET, to, "/run/t/a.txt")
    with pytest.raises(KeyRefusedError, match=r"\.\."):
        object_key(bucket(to), "", "/run/t/a.txt")


def test_a_name_may_have_two_dots_within() -> None:
    assert object_key(BUCKET, "", "/run/t/a..txt") == "runs/7/a..txt"


@pytest.mark.parametrize(("to", "path"), [("x/.", "/run/a"), ("", "/run/"), ("a\0b", "/run/a")])
def test_what_is_no_name_of_a_file_is_refused(to: str, path: str) -> None:
    with pytest.raises(KeyRefusedError):
        object_key(BUCKET, to, path)


def test_a_key_may_have_1024_bytes() -> None:
    name = "ä" * (MAX_KEY_BYTES // 2)
    assert object_key(bucket(""), "", f"/run/{name}") == name
    with pytest.raises(KeyRefusedError, match="1024 bytes"):
        object_key(bucket(""), "", f"/run/{name}a")


@hypothesis.given(prefix=FOLDERS, folder=FOLDERS, name=NAMES, label=st.sampled_from(["", "r_0", "r_1"]))
def test_every_key_is_below_its_prefix_or_refused(prefix: str, folder: str, name: str, label: str) -> None:
    to = f"{folder}/" if folder else ""
    try:
        key = object_key(bucket(prefix), to, f"/run/t/{name}", label)
    except KeyRefusedError:
        parts = (*prefix.split("/"), *folder.split("/"), name)
        assert ".." in parts or name == "." or len("/".join(parts).encode()) > MAX_KEY_BYTES - 5
        return
    assert ".." not in key.split("/")
    assert key.startswith(f"{prefix}/" if prefix else "")
    copy = StorageTarget(name="d", type="directory", path="/archive")
    assert posixpath.normpath(address(copy, key)).startswith("/archive")


@hypothesis.given(name=NAMES, to=st.sampled_from(["", "x/", "x/y.csv"]))
def test_replicas_never_share_a_key(name: str, to: str) -> None:
    hypothesis.assume(name not in (".", ".."))
    keys = {object_key(BUCKET, to, f"/run/{name}", label) for label in ("", "r_0", "r_1")}
    assert len(keys) == 3


def test_addresses_are_those_of_people() -> None:
    assert address(BUCKET, "runs/7/a.txt") == "s3://bucket/runs/7/a.txt"
    copy = StorageTarget(name="d", type="directory", path="/archive", prefix="x")
    assert address(copy, object_key(copy, "", "/run/a.txt")) == "/archive/x/a.txt"

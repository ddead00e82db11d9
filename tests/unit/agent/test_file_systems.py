"""Parsing of mountinfo, quota programs and cgroups."""

import pytest

from protocol.messages.inspection import Quota
from protocol.mounts import Mount, mount_of
from sflow_agent.inspection.file_systems import least, quota_of

MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /home rw - nfs4 server:/export/home rw,vers=4.2
31 30 0:27 / /home/with\\040space rw - lustre mgs@o2ib:/lus rw
32 22 0:28 / /scratch rw - tmpfs first rw
33 22 0:29 / /scratch rw - xfs /dev/sdb rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ("/dev/sda1", "ext4")),
        ("/homes/a", ("/dev/sda1", "ext4")),
        ("/home", ("server:/export/home", "nfs4")),
        ("/home/a/b", ("server:/export/home", "nfs4")),
        ("/home/with space/x", ("mgs@o2ib:/lus", "lustre")),
        ("/scratch/x", ("/dev/sdb", "xfs")),
    ],
)
def test_a_path_is_on_the_mount_that_is_seen(path: str, expected: tuple[str, str]) -> None:
    assert mount_of(path, MOUNTS)[:2] == expected


def test_an_empty_list_of_mounts_adds_no_option() -> None:
    assert mount_of("/a", "") == Mount()


def test_options_are_those_of_the_mount_and_of_the_file_system() -> None:
    assert mount_of("/home/x", MOUNTS).options == ("rw", "rw", "vers=4.2")


QUOTA = """Disk quotas for user ann (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
server:/export/home  123456*  100000  200000  604800    1234       0       0       0
/dev/sdb  10  100  0  0  5  50  60  0
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("server:/export/home", Quota(kib=123456, kib_limit=200000, files=1234, files_limit=0)),
        ("/dev/sdb", Quota(kib=10, kib_limit=100, files=5, files_limit=60)),
        ("/dev/sdc", None),
        ("Filesystem", None),
    ],
)
def test_the_quota_of_a_file_system(name: str, expected: Quota | None) -> None:
    assert quota_of(QUOTA, name) == expected


def test_lustres_quota_has_dashes_for_no_grace() -> None:
    text = "/lus/ann  4194304  0  8388608  -  77  0  100  -"
    assert quota_of(text, "/lus/ann") == Quota(kib=4194304, kib_limit=8388608, files=77, files_limit=100)


def test_the_lowest_limit_of_all_levels_counts() -> None:
    assert least("max", "700", "900", "") == 700
    assert least("max", "") is None

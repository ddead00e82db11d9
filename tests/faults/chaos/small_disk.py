"""The disk of a round's run directory: small, so that it can be filled, and one that can stall if the round needs that."""

import contextlib
import subprocess
from pathlib import Path

from tests.stalling_fs import StallingFs, can_mount

SIZE = "48m"


class SmallDisk:
    """A tmpfs, with a file system on top of it that answers as long as its daemon does."""

    def __init__(self, directory: Path, *, stalls: bool) -> None:
        """Mount it below this directory."""
        self._disk = directory / "disk"
        self._disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(self._disk)], check=True)
        self._fill = self._disk / "fill"
        has_stalls = stalls and can_mount()
        self._stalling = StallingFs(directory / "mount", self._disk) if has_stalls else None
        self.seen_as = (directory / "mount" if has_stalls else self._disk) / "run"
        """The run directory as the run knows it; tests look past a file system that may stall."""

    def fill(self) -> None:
        """Leave no room, until `free`."""
        with contextlib.suppress(OSError), self._fill.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))

    def free(self) -> None:
        """Make room again."""
        self._fill.unlink(missing_ok=True)

    def stall(self) -> None:
        """Answer nothing, until `resume`."""
        if self._stalling is not None:  # else this machine has no FUSE
            self._stalling.stall()

    def resume(self) -> None:
        """Answer again."""
        if self._stalling is not None:
            self._stalling.resume()

    def end(self) -> None:
        """Unmount it."""
        if self._stalling is not None:
            self._stalling.close()
        subprocess.run(["umount", "-l", str(self._disk)], check=False)

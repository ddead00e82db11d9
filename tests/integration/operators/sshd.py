"""An SSH server of our own on loopback: its key, its one user's key and its settings are in one directory."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import is_alive, wait_until

_SERVER = "/usr/sbin/sshd"  # it must be started by its absolute path
_NEEDED = "/run/sshd"
"""Where a server that root starts locks itself in. Debian makes it when the service starts."""


class NoServerError(Exception):
    """There is no SSH server here; the text has the reason."""


@dataclass
class Sshd:
    """A running server."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def operator(self) -> str:
        """The fields of an `ssh` operator that reaches it."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        extra = ", ".join(f"-o, {option}" for option in options)
        return (
            f"type: ssh, host: 127.0.0.1, user: {getpass.getuser()}, port: {self.port}, "
            f"identity_file: {self.directory}/user, extra_args: [{extra}]"
        )

    def connections(self) -> list[int]:
        """The processes that serve a connection."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split() if is_alive(int(pid))]

    def close(self) -> None:
        """Ends it and every connection."""
        for pid in (*self.connections(), self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


def start_sshd(directory: Path, settings_more: str = "") -> Sshd:
    """A server that accepts its user's key; `settings_more` are further lines of its settings. Raises: NoServerError."""
    if not Path(_SERVER).exists() or shutil.which("ssh-keygen") is None or shutil.which("ssh") is None:
        raise NoServerError("openssh-server or openssh-client is not installed")
    if os.geteuid() == 0:
        Path(_NEEDED).mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "user"):
        key = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name)
        subprocess.run(key, check=True, stdin=subprocess.DEVNULL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = directory / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {directory}/user.pub\nUsePAM no\nPasswordAuthentication no\nMaxStartups 100\n"
        + settings_more
    )
    with (directory / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            (_SERVER, "-D", "-e", "-f", settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Sshd(directory, port, process)

    def answers() -> bool:
        if process.poll() is not None:
            raise NoServerError((directory / "sshd.log").read_text().strip())
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, "sshd listens")
    return server

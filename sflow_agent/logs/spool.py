"""Decides where this node's logs are written: the run directory if it is the controller's own, else a private spool."""

import contextlib
import os
import stat

from protocol.messages.config import AgentConfig


def shares_run_directory(config: AgentConfig) -> bool:
    """Return whether the run directory here is the controller's: its nonce file holds our nonce."""
    if config.spool_directory is not None:
        return False
    try:
        with open(config.nonce_path or f"{config.run_directory}/.sflow/nonce", encoding="ascii") as file:  # noqa: PTH123
            return file.read() == config.nonce
    except (OSError, UnicodeDecodeError):
        return False


def make_spool(config: AgentConfig) -> str:
    """Make a private directory on this node for the run's logs. Raises: OSError, also when it is not ours."""
    parent = config.spool_directory or os.environ.get("TMPDIR") or "/tmp"
    spool = f"{parent}/sflow-{os.getuid()}-{config.run_id}-{config.node}"
    os.makedirs(parent, exist_ok=True)  # noqa: PTH103
    with contextlib.suppress(FileExistsError):
        os.mkdir(spool, 0o700)  # noqa: PTH102
    found = os.lstat(spool)  # must not follow a link
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return spool
    # Another user can guess the name, and make it first: that costs the name, not the run.
    import tempfile

    return tempfile.mkdtemp(prefix=f"{os.path.basename(spool)}-", dir=parent)  # noqa: PTH119


def remove_spool(path: str) -> None:
    """Remove the spool: everything in it has reached the controller."""
    import shutil  # imports every compression library: not at the start

    shutil.rmtree(path, ignore_errors=True)


def log_size(path: str) -> int:
    """Return the bytes of a log; 0 for one that does not exist yet."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - called for every log that grows
    except OSError:
        return 0

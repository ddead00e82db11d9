"""Where this node's logs go: the run directory when that is the controller's own, else a private spool."""

import contextlib
import os
import stat

from protocol.messages.config import AgentConfig


def shares_run_directory(config: AgentConfig) -> bool:
    """True when the run directory here is the controller's: its nonce file holds the nonce we were given."""
    if config.spool_directory is not None:
        return False
    try:
        with open(config.nonce_path or f"{config.run_directory}/.sflow/nonce", encoding="ascii") as file:  # noqa: PTH123
            return file.read() == config.nonce
    except (OSError, UnicodeDecodeError):
        return False


def make_spool(config: AgentConfig) -> str:
    """Return a private directory on this node for the run's logs. Raises: OSError."""
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
    """Everything in it has reached the controller."""
    import shutil  # brings every compression library along: not at the start

    shutil.rmtree(path, ignore_errors=True)

"""The scheme `vault`: files below the directory in $VAULT_DIRECTORY, as a stand-in for a store of your own."""

import os
import shutil
from pathlib import Path


class Vault:
    """Gets and puts files and directories: `vault://PATH`."""

    def fetch(self, uri, dest):
        """Copy to `dest`, which does not exist yet."""
        source = self._path(uri)
        if source.is_dir():
            shutil.copytree(source, dest)
        else:
            shutil.copyfile(source, dest)

    def exists(self, uri):
        """Return whether the vault has it."""
        return self._path(uri).exists()

    def push(self, path, uri):
        """Copy a file into the vault; readers see the old one or the new one."""
        goal = self._path(uri)
        goal.parent.mkdir(parents=True, exist_ok=True)
        part = goal.with_name(f".{goal.name}.{os.getpid()}")
        shutil.copyfile(path, part)
        part.replace(goal)

    def _path(self, uri):
        root = Path(os.environ["VAULT_DIRECTORY"]).resolve()
        path = (root / uri.partition("://")[2]).resolve()
        if not path.is_relative_to(root):
            raise ValueError(f"{uri} leaves the vault")
        return path

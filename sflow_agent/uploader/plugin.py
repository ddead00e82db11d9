"""A target that a plug-in of an installed package stores files in."""

from pathlib import Path

from protocol.messages.uploads import StorageTarget
from protocol.plugins import ARTIFACT_SCHEMES, PluginError, find_plugin
from protocol.text.object_keys import address
from sflow_agent.uploader.stores import Sent, StoreError


class PluginStore:
    """The place that a plug-in's URI names."""

    def __init__(self, target: StorageTarget) -> None:
        """Raises: StoreError."""
        self._target = target
        try:
            self._found = find_plugin(ARTIFACT_SCHEMES, target.uri.partition("://")[0].lower())
        except PluginError as error:
            raise StoreError(f"{error} on this node: {error.hint}", is_final=True) from error

    def put(self, path: str, key: str, sent: Sent) -> None:
        """Let the plug-in store a file. Raises: StoreError."""
        try:
            size = Path(path).stat().st_size
            self._found.plugin.push(path, address(self._target, key))
        except Exception as error:  # the edge to foreign code: whatever it raises is the answer
            raise StoreError(str(self._found.failed(error))) from error
        sent(size)

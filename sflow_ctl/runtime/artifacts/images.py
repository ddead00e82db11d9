"""Finds a container image where containers are run on this machine, and pulls it if it is missing."""

import shutil
import subprocess
import threading
import time

from protocol.machine.loop_signals import signals_for_children
from sflow_ctl.plan.fetches import ContainerImage
from sflow_ctl.runtime.artifacts.transfer import Cut, FetchError, Progress

_RUNTIMES = ("docker", "podman")
_ANSWER_WITHIN_S = 10.0
_PULL = """exec 3<&0
"$@" </dev/null 3<&- &
child=$!
trap 'kill "$child"' TERM
{ read -r _ <&3; kill "$child"; } >/dev/null 2>&1 &
watcher=$!
wait "$child"; status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
kill "$watcher" 2>/dev/null
exit "$status\""""
"""Ends the pull when standard input ends: with this process, however that ends."""


class ImageTransfer:
    """The pull of one image."""

    def __init__(self, image: ContainerImage) -> None:
        self.progress = Progress(image.artifact, image.uri)
        self._image = image.image
        self._process: subprocess.Popen[str] | None = None

    def run(self, stop: threading.Event) -> None:
        """Return when the image is here, or no runtime can tell. Raises: FetchError, Cut, OSError."""
        runtime = _usable_runtime()
        if runtime is None:
            self.progress.is_warning = True
            self.progress.outcome = (
                f"is not looked for: neither {' nor '.join(_RUNTIMES)} answers on this machine, "
                "so the image may be missing when a task starts"
            )
        elif _answers(runtime, "image", "inspect", self._image):
            self.progress.outcome = f"is present in {runtime}"
        else:
            self._pull(runtime, stop)

    def cut(self) -> None:
        """End the pull."""
        if self._process is not None:
            self._process.terminate()

    def _pull(self, runtime: str, stop: threading.Event) -> None:
        started = time.monotonic()
        self.progress.note = f"{runtime} pulls it"
        with signals_for_children():
            process = subprocess.Popen(
                ["/bin/bash", "-c", _PULL, "sflow-pull", runtime, "pull", self._image],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        with process:
            self._process = process
            if stop.is_set():
                self.cut()
            assert process.stderr is not None
            said = process.stderr.read()  # and the input stays open meanwhile
            process.wait()
        if stop.is_set():
            raise Cut
        if process.returncode != 0:
            last = said.strip().splitlines()[-1] if said.strip() else f"exit status {process.returncode}"
            hint = f"try `{runtime} pull {self._image}`; a registry may require `{runtime} login`"
            raise FetchError(f"{runtime} pull: {last}", hint)
        self.progress.elapsed_s = time.monotonic() - started
        self.progress.outcome = f"was pulled by {runtime} in {self.progress.elapsed_s:.1f} s, {self._image}"


def _usable_runtime() -> str | None:
    """Return the first runtime that is installed and answers: a client without its service cannot pull."""
    return next((name for name in _RUNTIMES if shutil.which(name) and _answers(name, "info")), None)


def _answers(*command: str) -> bool:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

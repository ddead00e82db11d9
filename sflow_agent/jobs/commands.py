"""Work that commands of the file start, look at, and cancel."""

from collections.abc import Mapping, Sequence
from typing import Any

from protocol.json_path import json_path, members
from protocol.messages.jobs import CANCEL_VARIABLE, FIND_VARIABLE, POLL_VARIABLE, JobSpec
from protocol.plugins import WorkState
from protocol.text.json_documents import documents
from sflow_agent.job_notes.record import FILE
from sflow_agent.jobs.driver import JobError, Ran, failure, run

LOOK_WITHIN_S = 120.0
ID_VARIABLE, KEY_VARIABLE = "EXTERNAL_ID", "EXTERNAL_KEY"
LAST_LOOK = "poll.json"
"""The file in the task's directory with what the last look has printed: its outputs may come from there."""
MAX_ID = 1000


class Commands:
    """A `Driver`."""

    def __init__(self, spec: JobSpec, start: Sequence[str], directory: str, env: Mapping[str, str]) -> None:
        """`start` is a command line; the others are in the environment."""
        self.every_s = spec.every_s
        self._spec, self._start, self._directory = spec, start, directory
        ours = (POLL_VARIABLE, CANCEL_VARIABLE, FIND_VARIABLE)
        self._poll, self._cancel, self._find = (env.get(name, "") for name in ours)
        self._env = {name: value for name, value in env.items() if name not in ours}

    def submit(self, key: str) -> str:
        """Run the command that starts the work; the last line that it prints is the id."""
        ran = run(self._start, {**self._env, KEY_VARIABLE: key}, LOOK_WITHIN_S)
        if ran.returncode:
            raise failure("`start` has failed", ran)
        lines = ran.stdout.decode(errors="replace").strip().splitlines()
        id = lines[-1].strip() if lines else ""
        if not id or len(id) > MAX_ID:
            raise JobError("`start` has not printed an id as its last line")
        return id

    def find(self, key: str) -> str | None:
        """Run the command that finds work by its key: it prints the id, or nothing. Without one it is not known."""
        if not self._find:
            raise JobError(
                "an earlier attempt was killed while `start` ran, so the work may have been started: "
                f"look whether it was, delete {FILE} in the task's directory if not, or give `find`"
            )
        ran = self._run(self._find, {KEY_VARIABLE: key})
        if ran.returncode:
            raise failure("`find` has failed", ran)
        lines = ran.stdout.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else None

    def use(self, key: str) -> None:
        """Do nothing."""

    def poll(self, id: str) -> WorkState:
        """Run the command that looks, and judge the word that it prints."""
        ran = self._run(self._poll, {ID_VARIABLE: id})
        if ran.returncode:
            raise failure("`poll` has failed", ran)
        word = self._word(ran.stdout)
        if word in self._spec.success:
            self._keep(ran.stdout)
            return WorkState("ended", 0, word)
        if word in self._spec.failure:
            self._keep(ran.stdout)
            return WorkState("ended", 1, word)
        return WorkState("running", text=word or "not saying anything")

    def cancel(self, id: str) -> None:
        """Run the command that cancels, if there is one."""
        if not self._cancel:
            raise JobError("there is no `cancel`")
        ran = self._run(self._cancel, {ID_VARIABLE: id})
        if ran.returncode:
            raise failure("`cancel` has failed", ran)

    def follow(self) -> bytes:
        """Return nothing: what it prints is not known."""
        return b""

    def _run(self, script: str, more: Mapping[str, str]) -> Ran:
        return run(["bash", "-c", script], {**self._env, **more}, LOOK_WITHIN_S)

    def _word(self, printed: bytes) -> str:
        """Return the word that says how far the work is. Raises: JobError."""
        if not self._spec.json:
            lines = printed.decode(errors="replace").strip().splitlines()
            return lines[-1].strip() if lines else ""
        try:
            found: list[Any] = [
                one
                for document in documents(printed)
                for one in members(document, json_path(self._spec.json))
            ]
        except ValueError as error:
            raise JobError(f"what `poll` has printed is not JSON: {error}") from error
        if not found:
            raise JobError(f"what `poll` has printed has no {self._spec.json}")
        return str(found[-1])

    def _keep(self, printed: bytes) -> None:
        try:
            with open(f"{self._directory}/{LAST_LOOK}", "wb") as file:  # noqa: PTH123
                file.write(printed)
        except OSError as error:
            raise JobError(f"{LAST_LOOK} cannot be written: {error.strerror}") from error

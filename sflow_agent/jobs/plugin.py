"""Jobs of a backend that an installed package has."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from protocol.messages.jobs import JOB_REASONS, JobSpec
from protocol.plugins import BACKENDS, JobRequest, PluginError, WorkState, find_plugin
from sflow_agent.jobs.driver import JobError
from sflow_agent.jobs.following import FollowedFile
from sflow_agent.jobs.slurm import job_environment


class PluginJobs:
    """One task's job. A `Driver`. Raises: JobError if there is no such plug-in."""

    def __init__(
        self, spec: JobSpec, command: Sequence[str], directory: str, env: Mapping[str, str], cwd: str
    ) -> None:
        try:
            self._found = find_plugin(BACKENDS, spec.plugin)
        except PluginError as error:
            raise JobError(f"{error}; {error.hint}") from error
        self.every_s = spec.every_s
        self._spec, self._command, self._directory = spec, command, directory
        self._env, self._cwd = job_environment(env), cwd
        self._log: FollowedFile | None = None

    def submit(self, key: str) -> str:
        """Have the plug-in submit the job."""
        self.use(key)
        spec = self._spec
        request = JobRequest(
            key=key,
            name=spec.name,
            command=tuple(self._command),
            env=self._env,
            directory=self._directory,
            cwd=self._cwd,
            output=self._output(key),
            nodes=spec.nodes,
            gpus_per_node=spec.gpus_per_node,
            options=spec.plugin_options,
        )
        id = self._ask(lambda: self._found.plugin.submit(request))
        if not isinstance(id, str) or not id or len(id.split()) != 1:
            raise JobError(
                f"plug-in {self._found.label}: its id of a job has to be a text without blanks: {id!r}"
            )
        return id

    def find(self, key: str) -> str | None:
        """Ask the plug-in for a job by its key."""
        self.use(key)
        found = self._ask(lambda: self._found.plugin.find(key, self._spec.plugin_options))
        return None if found is None else str(found)

    def use(self, key: str) -> None:
        """Follow the job with this key."""
        if self._log is None:
            self._log = FollowedFile(self._output(key))

    def poll(self, id: str) -> WorkState:
        """Ask the plug-in how far the job is."""
        state = self._ask(lambda: WorkState(*self._found.plugin.poll(id, self._spec.plugin_options)))
        assert isinstance(state, WorkState)
        if state.state not in ("pending", "running", "ended"):
            raise JobError(f"plug-in {self._found.label}: a job's state cannot be {state.state!r}")
        if state.reason and state.reason not in JOB_REASONS:
            known = ", ".join(sorted(JOB_REASONS))
            raise JobError(
                f"plug-in {self._found.label}: the reason of a job's end cannot be {state.reason!r}; it is one of {known}"
            )
        return state

    def cancel(self, id: str) -> None:
        """Have the plug-in end the job."""
        self._ask(lambda: self._found.plugin.cancel(id, self._spec.plugin_options))

    def follow(self) -> bytes:
        """Return what the job has printed since the last call."""
        return b"" if self._log is None else self._log.read()

    def _output(self, key: str) -> str:
        return f"{self._directory}/.sflow_job.{key}.log"

    def _ask(self, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Exception as error:  # the edge to foreign code
            raise JobError(str(self._found.failed(error))) from error

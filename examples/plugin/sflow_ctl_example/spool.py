"""The backend `spool`: jobs are files in a directory, which a runner of yours takes; here each starts one for itself."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

RUNNER = """
import json, os, subprocess, sys
job = json.load(open(sys.argv[1]))
with open(job["output"], "ab") as output:
    status = subprocess.call(job["command"], env=job["env"], cwd=job["cwd"], stdout=output, stderr=output)
open(sys.argv[1] + ".part", "w").write(str(status))
os.rename(sys.argv[1] + ".part", sys.argv[1] + ".status")
"""


class Spool:
    """Jobs below the directory of `options`: {directory: PATH}. The key of a job is its id."""

    def submit(self, job):
        """Write the job's file and start a runner, which outlives the one who asks."""
        path = self._path(job.key, job.options)
        path.parent.mkdir(parents=True, exist_ok=True)
        job_file = {"command": job.command, "env": dict(job.env), "cwd": job.cwd, "output": job.output}
        path.write_text(json.dumps(job_file))
        runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(path)], start_new_session=True)
        path.with_name(f"{path.name}.pid").write_text(str(runner.pid))
        return job.key

    def find(self, key, options):
        """Return the key if the job was submitted."""
        return key if self._path(key, options).exists() else None

    def poll(self, id, options):
        """Return (state, exit status, text)."""
        path = self._path(id, options)
        if not path.exists():
            return "ended", None, "its file is gone"
        status = path.with_name(f"{path.name}.status")
        if not status.exists():
            return "running", None, ""
        code = int(status.read_text())
        return "ended", code if code >= 0 else 128 - code, ""

    def cancel(self, id, options):
        """End the runner's session."""
        path = self._path(id, options)
        try:
            os.killpg(int(path.with_name(f"{path.name}.pid").read_text()), signal.SIGTERM)
        except (FileNotFoundError, ProcessLookupError):
            return
        path.with_name(f"{path.name}.status").write_text("-15")

    def _path(self, key, options):
        if not str(options.get("directory", "")).startswith("/"):
            raise ValueError("options need a directory, as an absolute path")
        return Path(options["directory"]) / f"{key}.json"

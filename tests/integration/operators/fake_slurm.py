"""Stand-ins for sbatch, squeue, sacct and scancel: jobs are processes of this machine, their states are files.

`sbatch` refuses options that it does not know, as Slurm does, and has no memory of jobs but those files.
"""

import contextlib
import os
import signal
import stat
import subprocess
import threading
from pathlib import Path

_SBATCH = r"""#!/bin/bash
d=DIR; comment=; output=/dev/null; script=
for word in "$@"; do case $word in
  --parsable|--requeue|--open-mode=append|--export=ALL) ;;
  --job-name=*) ;; --comment=*) comment=${word#*=} ;; --output=*) output=${word#*=} ;;
  --nodes=*|--gpus-per-node=*|--account=*|--partition=*|--time=*|--qos=*|--mem=*|--exclude=*|--constraint=*) ;;
  --mail-user=*|--mail-type=*|--cpus-per-task=*|--reservation=*|--nodelist=*|--dependency=*) ;;
  -*) echo "sbatch: unrecognized option '$word'" >&2; exit 1 ;;
  *) script=$word ;; esac; done
if env | grep -q '^SLURM_JOB_ID='; then echo "sbatch: the variables of another job" >&2; exit 1; fi
if [ -e $d/refuse ]; then cat $d/refuse >&2; exit 1; fi
id=$(( $(ls $d/jobs | wc -l) + 1 )); mkdir $d/jobs/$id; cd $d/jobs/$id
printf '%s\n' "$@" > options; echo "$comment" > comment; echo PENDING > state
echo "$script" > script; echo "$output" > output; env -0 > env; touch submitted
[ -e $d/silent ] || echo "$id;cluster"
"""
_SQUEUE = r"""#!/bin/bash
d=DIR; format=
for word in "$@"; do case $word in --format=*) format=${word#*=} ;; esac; done
echo x >> $d/squeues
if [ -e $d/down ]; then echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; fi
for job in $d/jobs/*/; do [ -e $job/purged ] && continue; id=$(basename $job)
  case $format in *%k*) echo "$id|$(cat $job/comment)" ;; *) echo "$id|$(cat $job/state)|None" ;; esac
done 2>/dev/null; exit 0
"""
_SCANCEL = r"""#!/bin/bash
d=DIR; for id in "$@"; do [ "$id" = --quiet ] && continue
  [ -d $d/jobs/$id ] || { echo "scancel: error: Invalid job id $id" >&2; exit 1; }
  echo CANCELLED > $d/jobs/$id/state; [ -e $d/jobs/$id/pid ] && kill -TERM -- -$(cat $d/jobs/$id/pid) 2>/dev/null
done; exit 0
"""
_SACCT = r"""#!/bin/bash
d=DIR; [ -e $d/accounting ] || { echo "Slurm accounting storage is disabled" >&2; exit 1; }
cat $d/accounting
"""


class FakeSlurm:
    """The programs, in a folder for PATH, and a thread that starts jobs: they are no children of who submits them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder, folder / "bin"
        (folder / "jobs").mkdir(parents=True)
        self.programs.mkdir()
        for name, text in (
            ("sbatch", _SBATCH),
            ("squeue", _SQUEUE),
            ("scancel", _SCANCEL),
            ("sacct", _SACCT),
        ):
            path = self.programs / name
            path.write_text(text.replace("DIR", str(folder)))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def path(self, before: str) -> str:
        """PATH with these programs before others."""
        return f"{self.programs}:{before}"

    @property
    def count(self) -> int:
        """The number of jobs that were submitted."""
        return len(list((self.folder / "jobs").iterdir()))

    def state(self, number: int) -> str:
        path = self.folder / "jobs" / str(number) / "state"
        return path.read_text().strip() if path.exists() else ""

    def set_state(self, number: int, state: str) -> None:
        (self.folder / "jobs" / str(number) / "state").write_text(f"{state}\n")

    def options(self, number: int) -> list[str]:
        return (self.folder / "jobs" / str(number) / "options").read_text().splitlines()

    def close(self) -> None:
        """End all jobs."""
        self._is_over.set()
        self._thread.join()
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _work(self) -> None:
        while not self._is_over.wait(0.02):
            for job in sorted((self.folder / "jobs").glob("*/submitted")):
                if job.parent not in self._running and not (self.folder / "hold").exists():
                    self._start(job.parent)
            for job, process in self._running.items():
                code, state = process.poll(), job / "state"
                if code is not None and state.read_text().strip() == "RUNNING":
                    state.write_text("COMPLETED\n" if code == 0 else "FAILED\n")

    def _start(self, job: Path) -> None:
        words = (job / "env").read_bytes().rstrip(b"\0").split(b"\0")
        env = dict(word.split(b"=", 1) for word in words)
        with (job / "output").open() as named, Path(named.read().strip()).open("ab") as output:
            self._running[job] = started = subprocess.Popen(
                ["bash", (job / "script").read_text().strip()],
                env={**env, b"SLURM_JOB_ID": job.name.encode()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        (job / "pid").write_text(str(started.pid))
        (job / "state").write_text("RUNNING\n")

"""A Podman of our own.

Its images, containers and settings are in one directory, and an image made of this machine's bash.
"""

import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

IMAGE = "localhost/tiny:1"
_TOOLS = ("bash", "sleep", "cat", "env", "ls", "touch", "id", "setsid", "grep")
_RUNTIMES = ("crun", "runc")
_LIMIT = 4096


class CannotRunError(Exception):
    """Containers do not run here; the text has the reason."""


@dataclass
class Podman:
    """Settings that make every `podman` of this environment ours."""

    directory: Path
    runtime: str = _RUNTIMES[0]

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment for processes that start podman."""
        return {
            "CONTAINERS_CONF": str(self.directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
        }

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs podman to its end."""
        return subprocess.run(
            ("podman", *arguments),
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def containers(self) -> list[str]:
        """Names of all containers there are, running or not."""
        listed = self("ps", "--all", "--format", "{{.Names}}")
        assert listed.returncode == 0, listed.stderr
        return listed.stdout.split()


def make_podman(directory: Path) -> Podman:
    """A Podman that runs containers. Raises: CannotRunError."""
    if shutil.which("podman") is None:
        raise CannotRunError("podman is not installed")
    podman = Podman(directory)
    problems = []
    for runtime in _RUNTIMES:
        if shutil.which(runtime) is None:
            problems.append(f"{runtime} is not installed")
            continue
        _write_settings(podman, runtime)
        if podman("image", "exists", IMAGE).returncode != 0:
            _import_image(podman)
        tried = podman("run", "--rm", "--network=host", IMAGE, "bash", "-c", "echo up")
        if tried.stdout == "up\n":
            return podman
        problems.append(f"{runtime}: {tried.stderr.strip()}")
    raise CannotRunError("; ".join(problems))


def _write_settings(podman: Podman, runtime: str) -> None:
    """Write settings with locks and state of their own, so that two tests never wait for each other.

    Limits stay as they are: Podman would raise them, which may not be allowed here.
    """
    podman.runtime = runtime
    limits = []
    for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(number)[1]
        limit = _LIMIT if hard == resource.RLIM_INFINITY else min(hard, _LIMIT)
        limits.append(f'"{name}={limit}:{limit}"')
    (podman.directory / "containers.conf").write_text(
        f"[containers]\ndefault_ulimits = [{', '.join(limits)}]\n"
        f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "{runtime}"\n'
        f'lock_type = "file"\ntmp_dir = "{podman.directory}/tmp"\n'
    )
    (podman.directory / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{podman.directory}/store"\nrunroot = "{podman.directory}/run"\n'
    )


def _import_image(podman: Podman) -> None:
    """bash, a few tools and the libraries they need."""
    root = podman.directory / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    for tool in _TOOLS:
        program = shutil.which(tool)
        assert program is not None
        shutil.copy(program, root / "bin" / tool)
        listed = subprocess.run(("ldd", program), capture_output=True, text=True, check=True).stdout
        for word in listed.split():
            if word.startswith("/"):
                target = root / word.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)
    archive = podman.directory / "rootfs.tar"
    subprocess.run(("tar", "-C", root, "-cf", archive, "."), check=True)
    imported = podman("import", str(archive), IMAGE)
    if imported.returncode != 0:
        raise CannotRunError(imported.stderr.strip())

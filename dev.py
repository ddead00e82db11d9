#!/usr/bin/env python3
"""Sets this checkout up and uses it: `python3 dev.py run` runs an example, `python3 dev.py test` passes
the tests.

Needs Python 3.11 or newer and nothing else; everything goes into `.venv` here. A second call only does
what has changed.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
EXAMPLE = ("run", "examples/diamond.yaml")
DEBIAN_PACKAGES = {
    "dot": "graphviz",
    "make": "make",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "etcd": "etcd-server",
    "nats-server": "nats-server",
    "nginx": "nginx-light",
    "ps": "procps",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "srun": "slurm-client",
    "munged": "munge",
    "ip": "iproute2",
    "iptables": "iptables",
    "mpicc.mpich": "libmpich-dev",
    "openssl": "openssl",
    "/usr/include/slurm/spank.h": "libslurm-dev",
    "/usr/include/stdio.h": "libc6-dev",
    "gcc": "gcc",
    "sshd": "openssh-server",
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
}
"""Programs and headers that examples and tests use, and the Debian packages they are in."""
CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("lint-imports",),
    ("pytest", "-q", "-rs", "--durations=10"),
)


def main() -> int:
    """The exit status of what was asked for."""
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]} ({sys.executable})")
    os.chdir(ROOT)
    match sys.argv[1:]:
        case ["run"]:
            install("")
            return subprocess.run([VENV / "bin" / "sflow-ctl", *EXAMPLE], check=False).returncode
        case ["test", *arguments]:
            install("[dev]")
            install_programs()
            return test(arguments)
        case ["install"]:
            install("[dev]")
            return 0
        case _:
            sys.stdout.write(f"{__doc__}\n")
            return 2


def install(extras: str) -> None:
    """Makes `.venv` with this project in it, unless it is there and pyproject.toml is the same."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + extras.encode()).hexdigest()
    stamp = VENV / f"installed{extras}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not PYTHON.exists():
        make_environment()
    command = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command += ["--config-settings", "editable_mode=compat", "-e", f".{extras}"]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("the packages could not be installed (see above); is a package index reachable?")
    stamp.write_text(wanted)


def make_environment() -> None:
    """A virtual environment, also where Debian has split `venv` from Python."""
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", VENV], check=False, capture_output=True, text=True)
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    apt_install(["python3-venv"], f"`{sys.executable} -m venv` failed:\n{made.stdout}{made.stderr}")
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)


def install_programs() -> None:
    """Programs the tests start; a test whose program is missing says so and is skipped."""
    missing = sorted(
        {
            package
            for name, package in DEBIAN_PACKAGES.items()
            if shutil.which(name) is None and not (name.startswith("/") and Path(name).exists())
        }
    )
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install(missing, "")
    elif missing:
        sys.stdout.write(f"not installed, so the tests that need them are skipped: {', '.join(missing)}\n")


def apt_install(packages: list[str], why: str) -> None:
    """Debian packages, for root; otherwise says what to install."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"{why}\ninstall {' '.join(packages)} with your system's package manager, then try again")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment, stdin=subprocess.DEVNULL)
    install_them = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(
        install_them, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


def test(arguments: list[str]) -> int:
    """Runs all checks, the tests last; returns 1 if any failed. Arguments go to pytest, which then runs
    alone.
    """
    environment = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    # A shell without job control starts background commands with SIGINT ignored; tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and what it starts would, too
    if arguments:
        return subprocess.run([PYTHON, "-m", "pytest", *arguments], check=False, env=environment).returncode
    failed = []
    for check in CHECKS:
        sys.stdout.write(f"\n== {' '.join(check)}\n")
        sys.stdout.flush()
        command = (
            [PYTHON, "-m", *check]
            if check[0] in ("pytest", "mypy")
            else [VENV / "bin" / check[0], *check[1:]]
        )
        if subprocess.run(command, check=False, env=environment, stdin=subprocess.DEVNULL).returncode != 0:
            failed.append(check[0])
    sys.stdout.write(f"\nfailed: {', '.join(failed)}\n" if failed else "\nall checks passed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

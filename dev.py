#!/usr/bin/env python3
"""Set this checkout up and use it. Needs Python 3.11 or newer; everything Python goes into `.venv` here.

python3 dev.py run                      run examples/diamond.yaml on this machine
python3 dev.py test [--yes]             run all checks and tests
python3 dev.py test [--yes] ARGUMENTS   run pytest alone, with these arguments
python3 dev.py docs                     build the documents as offline HTML in build/site
python3 dev.py install                  only set up
python3 dev.py uplot VERSION            replace the chart library in reports by another release, with npm

`test` also uses programs from Debian packages (redis, nginx, Slurm, ...). It lists those that are missing and
asks before it installs them; with --yes, or with CI=true in the environment, it installs them without asking.
Without a terminal to ask at it installs nothing, and the tests that need a missing program are skipped.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UPLOT = ROOT / "sflow_ctl" / "report" / "page" / "bundled"
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
    "debootstrap": "debootstrap",
    "chromium": "chromium",
    "/etc/profile.d/modules.sh": "environment-modules",
    "zsh": "zsh",
    "fish": "fish",
    f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/libcairo.so.2": "libcairo2",
}
"""Programs and headers that examples and tests use, and the Debian packages they are in."""
SIDE_BY_SIDE = ("tests/conformance", "tests/integration", "tests/faults")
"""Tests that mostly wait for processes, three at a time: two leave half of two CPUs idle."""
CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("lint-imports",),
    ("mkdocs", "build", "--strict", "--quiet"),
)
"""What reads the code and the documents, in this order."""
UNIT_TESTS = ("pytest", "-q", "-rs", "-n", "2", "--dist=worksteal", "--cov", "--cov-report=", "tests/unit")
"""They only compute. They run beside the tests of Slurm, which mostly wait, with the lowest priority."""
SLURM_TESTS = (
    "pytest",
    "-q",
    "-rs",
    "--durations=10",
    *(f"--ignore={path}" for path in ("tests/unit", *SIDE_BY_SIDE)),
)
"""One at a time: they share one cluster."""
OTHER_TESTS = ("pytest", "-q", "-rs", "--durations=10", "-n", "3", "--dist=loadfile", *SIDE_BY_SIDE)
COVERAGE = ("coverage", "report")
"""The limit is in pyproject.toml."""
CHECK_LIMIT_S = 2400.0
"""How long one check may take; each test has a limit of its own in pyproject.toml."""
LAST_WORDS_S = 60.0
"""How long an interrupted check may take to say what has failed until then."""


def main() -> int:
    """Do what the command line asks for and return the exit status."""
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]} ({sys.executable})")
    os.chdir(ROOT)
    match sys.argv[1:]:
        case ["run"]:
            install("")
            return subprocess.run([VENV / "bin" / "sflow-ctl", *EXAMPLE], check=False).returncode
        case ["test", *arguments]:
            install("[dev]")
            is_agreed = "--yes" in arguments or os.environ.get("CI") == "true"
            install_programs(is_agreed)
            return test([argument for argument in arguments if argument != "--yes"])
        case ["docs"]:
            install("[dev]")
            return build_documents()
        case ["install"]:
            install("[dev]")
            return 0
        case ["uplot", version]:
            return replace_uplot(version)
        case _:
            sys.stdout.write(f"{__doc__}\n")
            return 2


def install(extras: str) -> None:
    """Make `.venv` with this project in it, unless it exists and pyproject.toml has not changed."""
    sources = (ROOT / name for name in ("pyproject.toml", "sflow_ctl/version.py"))
    wanted = hashlib.sha256(b"".join(one.read_bytes() for one in sources) + extras.encode()).hexdigest()
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
    """Make a virtual environment, also where Debian ships `venv` in a package of its own."""
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", VENV], check=False, capture_output=True, text=True)
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    apt_install(["python3-venv"], f"`{sys.executable} -m venv` failed:\n{made.stdout}{made.stderr}")
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)


def install_programs(is_agreed: bool) -> None:
    """Install the Debian packages that tests use and that are missing, if the user agrees.

    Args:
        is_agreed: The user has agreed already, so nothing is asked.
    """
    missing = sorted(
        {
            package
            for name, package in DEBIAN_PACKAGES.items()
            if shutil.which(name) is None and not (name.startswith("/") and Path(name).exists())
        }
    )
    if not missing:
        return
    sys.stdout.write(f"Debian packages that some tests need and that are missing: {' '.join(missing)}\n")
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.stdout.write("only root can install them, with apt-get: the tests that need them are skipped\n")
    elif is_agreed or asked("Install them now with apt-get?"):
        sys.stdout.write("installing them with apt-get\n")
        sys.stdout.flush()
        apt_install(missing, "")
    else:
        sys.stdout.write("not installed (--yes installs them): the tests that need them are skipped\n")


def asked(question: str) -> bool:
    """Return whether the user answers yes; False without a terminal to ask at."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def apt_install(packages: list[str], why: str) -> None:
    """Install Debian packages as root; as another user, end with a message that says what to install."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"{why}\ninstall {' '.join(packages)} with your system's package manager, then try again")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment, stdin=subprocess.DEVNULL)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def replace_uplot(version: str) -> int:
    """Replace the files of the chart library by those of a release, and the note of its version and digests."""
    note = json.loads((UPLOT / "uplot.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"uplot@{version}"]
        packed = subprocess.run(
            command, check=True, cwd=folder, capture_output=True, text=True
        ).stdout.split()[-1]
        with tarfile.open(Path(folder, packed)) as archive:
            for name, one in note["files"].items():
                member = archive.extractfile(one["from"])
                assert member is not None, one["from"]
                content = member.read()
                (UPLOT / name).write_bytes(content)
                one["sha256"] = hashlib.sha256(content).hexdigest()
    note |= {"version": version, "release": f"https://github.com/leeoniya/uPlot/releases/tag/{version}"}
    (UPLOT / "uplot.json").write_text(json.dumps(note, indent=2) + "\n")
    sys.stdout.write("now: python3 dev.py test tests/integration/looking/test_report_page.py\n")
    return 0


def build_documents() -> int:
    """Build `docs/` as HTML that works without a server; return 1 on a broken link or page."""
    command = [VENV / "bin" / "mkdocs", "build", "--strict", "--quiet"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # Material's note on its own future
    if subprocess.run(command, check=False, env=environment).returncode != 0:
        return 1
    sys.stdout.write(f"open {ROOT / 'build' / 'site' / 'index.html'}\n")
    return 0


def test(arguments: list[str]) -> int:
    """Run all checks, the tests last; return 1 if any failed. With arguments, run pytest alone."""
    environment = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment["NO_MKDOCS_2_WARNING"] = "1"  # Material's note on its own future
    # A shell without job control starts background commands with SIGINT ignored; tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and what it starts would, too
    if arguments:
        return subprocess.run([PYTHON, "-m", "pytest", *arguments], check=False, env=environment).returncode
    environment["SFLOW_REFERENCE"] = "1"  # installs the sflow whose plans are compared with ours
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(Path(folder), environment)
        for check in CHECKS:
            checks.run(check)
        in_background = checks.begin(UNIT_TESTS)
        checks.run(SLURM_TESTS)
        checks.finish(in_background)
        checks.run(COVERAGE)
        checks.run(OTHER_TESTS)
    sys.stdout.write("".join(checks.failures))
    sys.stdout.write(f"\nfailed: {', '.join(checks.failed)}\n" if checks.failed else "\nall checks passed\n")
    return 1 if checks.failed else 0


class Checks:
    """Checks that run, what failed of them, and why."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        """Begin without any.

        Args:
            folder: For results and output, until all have ended.
            environment: Of their processes.
        """
        self.failed: list[str] = []
        self.failures: list[str] = []
        self._folder = folder
        self._environment = environment

    def run(self, check: tuple[str, ...]) -> None:
        """Run one check and show its output as it comes."""
        say_title(check)
        self._end(check, finished(self._start(check, None, 0)))

    def begin(self, check: tuple[str, ...]) -> tuple[tuple[str, ...], subprocess.Popen[bytes]]:
        """Return a check that runs with the lowest priority from now on; `finish` waits for it and shows its output."""
        with self._output(check).open("wb") as output:
            return check, self._start(check, output, 19)

    def finish(self, begun: tuple[tuple[str, ...], subprocess.Popen[bytes]]) -> None:
        """Wait for what was begun and show its output."""
        check, process = begun
        status = finished(process)
        say_title(check)
        sys.stdout.write(self._output(check).read_text(errors="replace"))
        self._end(check, status)

    def _start(
        self, check: tuple[str, ...], output: BinaryIO | None, niceness: int
    ) -> subprocess.Popen[bytes]:
        is_module = check[0] in ("pytest", "mypy")
        command = [PYTHON, "-m", *check] if is_module else [VENV / "bin" / check[0], *check[1:]]
        command += [f"--junitxml={self._results(check)}"] if check[0] == "pytest" else []
        return subprocess.Popen(
            ["nice", "-n", str(niceness), *command] if niceness else command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        )

    def _end(self, check: tuple[str, ...], status: int) -> None:
        if status != 0:
            self.failed.append(check[0])
            self.failures += failed_tests(self._results(check))

    def _results(self, check: tuple[str, ...]) -> Path:
        return self._folder / f"{abs(hash(check))}.xml"

    def _output(self, check: tuple[str, ...]) -> Path:
        return self._folder / f"{abs(hash(check))}.log"


def finished(process: subprocess.Popen[bytes]) -> int:
    """Wait for a check and return its exit status; interrupt one that exceeds its limit, so that it says what has failed."""
    for number, seconds in ((signal.SIGINT, CHECK_LIMIT_S), (signal.SIGKILL, LAST_WORDS_S)):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            sys.stdout.write(f"\nno end after {seconds:.0f} s: {number.name}\n")
            process.send_signal(number)
    return process.wait()


def say_title(check: tuple[str, ...]) -> None:
    """Write the command of a check as the title of its output."""
    sys.stdout.write(f"\n== {' '.join(check)}\n")
    sys.stdout.flush()


def failed_tests(results: Path) -> list[str]:
    """Return a paragraph for each test that failed: its name and the end of its traceback, for the end of a long log."""
    if not results.exists():
        return []
    paragraphs = []
    for case in ElementTree.parse(results).iter("testcase"):
        for problem in (*case.findall("failure"), *case.findall("error")):
            end = "\n".join(line[:500] for line in (problem.text or "").splitlines()[-40:])
            paragraphs.append(f"\n-- {problem.tag} of {case.get('classname')}::{case.get('name')}\n{end}\n")
    return paragraphs


if __name__ == "__main__":
    sys.exit(main())

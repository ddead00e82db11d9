"""F39: statuses, signals and crashes, each by its name and with its cause, as a person reads them at the end of a run."""

from pathlib import Path

from tests.support import Run, lines_with, nothing_left

HEAD = 'version: "0.1"\nworkflow:\n  name: exits\n  tasks:\n'
SCRIPTS = {
    "good": "true",
    "one": "exit 1",
    "last": "exit 255",
    "missing": "no-such-program --port 1",
    "crashed": "bash -c 'kill -SEGV $$'; exit $?",
    "signal": "kill -TERM $$; sleep 600",
    "core": "ulimit -c unlimited; kill -ABRT $$; sleep 600",
}
ENDS = {
    "good": (0, None),
    "one": (1, None),
    "last": (255, None),
    "missing": (127, None),
    "crashed": (139, None),
    "signal": (None, "SIGTERM"),
    "core": (None, "SIGABRT"),
}
SAID = {
    "one": ("exit status 1",),
    "last": ("exit status 255",),
    "missing": ("no-such-program: command not found",),
    "crashed": ("SIGSEGV",),
    "signal": ("SIGTERM",),
    "core": ("SIGABRT",),
}


def test_f39_every_end_has_its_name_and_its_cause(tmp_path: Path) -> None:
    tasks = "".join(
        f'    - {{name: {name}, on_failure: continue, script: ["cd {tmp_path}; {script}"]}}\n'
        for name, script in SCRIPTS.items()
    )
    run = Run.start(HEAD + tasks, tmp_path)
    try:
        status, output = run.finish()
        assert status == 0, output  # they were allowed to fail
        ended = {task.name: (task.exit_code, task.signal) for task in run.summary().tasks}
        assert ended == ENDS
        for name, words in SAID.items():
            assert lines_with(output, name, *words), f"{name}: {output}"
        nothing_left(run)
    finally:
        run.kill()

"""Every way from a text of somebody else to a terminal, with a text that would move its cursor or set its title."""

import http.server
import json
import os
import pty
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import command, wait_until

HOSTILE = (
    "seen"
    "\x1b]0;owned\x07"  # a title
    "\x1b]52;c;b3duZWQ=\x1b\\"  # the clipboard
    "\x1b]8;;http://x\x1b\\"  # a link
    "\x1b[2J\x1b[5;1H\x1b[?1049h"  # clears, moves, another screen
    "\x1bc"  # resets
    "\x1bP1$q\x1b\\"  # a question
    "\x9b2J\x9d0;owned\x9c\x90x\x9c"  # the same as single characters
    "\x07\x08\x7f\x0e"
    "\u202e\u2066\u061c"  # text that runs the other way
    "\u2028"
    "\x1b[8"  # cut
)
PLAIN_TEXT = re.compile("[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|[\n\t]")
OURS = re.compile(r"\r\x1b\[K|\x1b\[[0-9;:]*m|\r(?=\n)")
"""Our status line is erased and drawn again; colours stay; a terminal driver ends lines with a return of its own."""


def on_terminal(*arguments: str | Path, cwd: Path, within_s: float = 60, errors: str = "strict") -> str:
    """Run the command line with a terminal as its standard output and standard error; return what the terminal got."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "HOME": str(cwd)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(controller, 65536)
            except OSError:  # EIO: the last one who had the terminal has closed it
                return
            if not data:
                return
            shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        process.wait(within_s)
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        os.close(controller)
    return shown.decode(errors=errors)  # strictly: a bare byte of 0x80 to 0x9f is a control, too


def unsafe_in(shown: str) -> str:
    """Return what a terminal would act on, with its surroundings; empty when there is nothing."""
    left = OURS.sub("", shown)
    bad = [at for at, one in enumerate(left) if not PLAIN_TEXT.match(one)]
    return "; ".join(repr(left[max(0, at - 30) : at + 10]) for at in bad[:5])


class _Hostile(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.wfile.write(f"HTTP/1.1 503 {HOSTILE}\r\nX: {HOSTILE}\r\n\r\n{HOSTILE}".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hostile_port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def printing(text: str) -> str:
    """Return a shell command that prints a text with its raw bytes, and bytes that are not UTF-8."""
    octal = "".join(f"\\{byte:03o}" for byte in text.encode())
    return f"printf '{octal}\\n\\2332Jraw\\n10%%\\r20%%\\n\\033[31mred\\n'"


def write_workflow(directory: Path, *tasks: dict[str, object], **sections: object) -> None:
    """Write `w.yaml` as JSON, which YAML reads as well."""
    document = {"version": "0.1", **sections, "workflow": {"name": "w", "tasks": tasks}}
    (directory / "w.yaml").write_text(json.dumps(document))


@pytest.fixture
def hostile_run(tmp_path: Path, hostile_port: int) -> Path:
    """A workflow in which everything that can be quoted is hostile: output, values, probes, a stop command, an end."""
    show = printing(HOSTILE)
    value = shlex.quote(json.dumps({"v": HOSTILE}))
    http = {"http_get": {"url": f"http://127.0.0.1:{hostile_port}/"}, "timeout": 3, "interval": 1}
    program = {"exec": {"command": ["bash", "-c", f"{show}; exit 1"]}, "timeout": 3, "interval": 1}
    write_workflow(
        tmp_path,
        {"name": "prints", "script": [show, f"echo {shlex.quote(HOSTILE)}"]},
        {
            "name": "values",
            "script": [f"printf %s {value} > $SFLOW_TASK_OUTPUT_DIR/v.json"],
            "outputs": [{"json": "v", "name": "v", "source": "v.json"}],
        },
        {"name": "refused", "on_failure": "continue", "script": ["sleep 600"], "probes": {"readiness": http}},
        {
            "name": "probed",
            "on_failure": "continue",
            "script": ["sleep 600"],
            "probes": {"readiness": program},
            "stop": {"command": ["bash", "-c", f"{show}; exit 1"]},
        },
        {"name": "fails", "script": [show, "sleep 5", f"{show} >&2; exit 7"]},
        variables={"V": HOSTILE},
    )
    return tmp_path


def test_s3_what_a_run_shows_on_a_terminal(hostile_run: Path) -> None:
    shown = on_terminal("run", "w.yaml", "--run-id", "r", cwd=hostile_run)
    assert unsafe_in(shown) == ""
    assert "[prints]" in shown
    assert "seen" in shown
    assert "\x1b[31mred\x1b[0m" in shown
    run = hostile_run / "sflow_output" / "r"
    assert b"\x1b]0;owned" in (run / "prints/prints.log").read_bytes(), "the file has the bytes"
    assert "\x1b" not in (run / "sflow.log").read_text()
    for arguments in (
        ("status", "r"),
        ("status", "r", "--json"),
        ("attach", "r"),
        ("logs",),
        ("logs", "prints"),
        ("logs", "-n", "3", "prints"),
        ("logs", "-f", "fails"),
        ("run", "--resume", "r"),
    ):
        assert unsafe_in(on_terminal(*arguments, cwd=hostile_run)) == "", arguments
    assert "\x1b]0;owned" in on_terminal("logs", "--raw", "prints", cwd=hostile_run, errors="replace")


def test_s3_a_pipe_gets_the_bytes_of_the_log(tmp_path: Path) -> None:
    write_workflow(tmp_path, {"name": "t", "script": [printing(HOSTILE)]})
    done = subprocess.run(
        command("run", "w.yaml", "--run-id", "r"), cwd=tmp_path, capture_output=True, check=True
    )
    raw = (tmp_path / "sflow_output/r/t/t.log").read_bytes()
    assert HOSTILE.encode() in raw
    assert all(b"[t] " + line in done.stdout for line in raw.splitlines(keepends=True)[:1])
    logs = subprocess.run(command("logs", "t"), cwd=tmp_path, capture_output=True, check=True)
    assert logs.stdout == raw


def test_s3_what_is_shown_of_a_workflow(hostile_run: Path) -> None:
    for arguments in (
        ("plan", "w.yaml"),
        ("plan", "w.yaml", "--json"),
        ("run", "--dry-run", "w.yaml"),
        ("visualize", "w.yaml", "--show-variables"),
        ("visualize", "w.yaml", "--show-variables", "--format", "dot"),
        ("compose", "w.yaml"),
        ("compose", "w.yaml", "--resolve", "-vl"),
        ("batch", "w.yaml", "-N", "1", "-p", "p", "-A", "a"),
    ):
        shown = on_terminal(*arguments, cwd=hostile_run)
        assert unsafe_in(shown) == "", arguments
        assert shown, arguments


@pytest.mark.parametrize(
    "text",
    [
        "{H: 1}",
        'version: H\nworkflow: {name: w, tasks: [{name: t, script: ["true"]}]}',
        'version: "0.1"\nworkflow: {name: H, tasks: [{name: H, script: ["true"], depends_on: [H]}]}',
        'version: "0.1"\nvariables: {A: {type: integer, value: H}}\nworkflow: {name: w, tasks: []}',
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: t, H: 1, script: ["${{ nothing }} H"], operator: H}]}',
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: t, retries: H, timeout: H, script: ["true"]}]}',
    ],
)
def test_s3_what_is_said_of_mistakes_in_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.yaml").write_text(re.sub(r"\bH\b", lambda _: json.dumps(HOSTILE), text))
    shown = on_terminal("plan", "w.yaml", cwd=tmp_path)
    assert unsafe_in(shown) == ""
    assert "error[" in shown or "where" in shown, shown


@pytest.mark.parametrize(
    "arguments",
    [
        (HOSTILE,),
        ("run", HOSTILE),
        ("run", "w.yaml", "--set", HOSTILE),
        ("run", "w.yaml", f"--{HOSTILE}"),
        ("run", "w.yaml", "--run-id", f"{HOSTILE}/x"),
        ("run", "w.yaml", "--task", HOSTILE),
        ("run", "--resume", HOSTILE),
        ("--debug", "run", HOSTILE),
        ("status", HOSTILE),
        ("logs", HOSTILE),
        ("presets", HOSTILE),
        ("sample", "show", HOSTILE),
        ("visualize", "w.yaml", "-o", f"x.{HOSTILE}"),
        ("compose", "w.yaml", "-o", f"none/{HOSTILE}"),
        ("batch", "-b", HOSTILE, "w.yaml"),
        ("doctor", "--nodes", HOSTILE),
    ],
    ids=lambda arguments: "-".join(arguments).replace(HOSTILE, "H"),
)
def test_s3_what_is_said_of_words_of_the_command_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_workflow(tmp_path, {"name": "t", "script": ["true"]})
    shown = on_terminal(*arguments, cwd=tmp_path)
    assert unsafe_in(shown) == ""
    assert shown.strip()


def test_s3_what_is_shown_of_settings(tmp_path: Path) -> None:
    write_workflow(tmp_path, {"name": "t", "script": ["true"]}, settings={"preamble": [f"true {HOSTILE}"]})
    for arguments in (("config", "show", "w.yaml", "--origin"), ("config", "show", "w.yaml", "--json")):
        assert unsafe_in(on_terminal(*arguments, cwd=tmp_path)) == "", arguments


# ---------------------------------------------------------------- a run directory that somebody else has made


def _everywhere(value: object, spoil: Callable[[str], str]) -> object:
    """Return JSON data with each name and text of a person or host spoilt."""
    if isinstance(value, dict):
        return {key: _everywhere_in(key, one, spoil) for key, one in value.items()}
    return [_everywhere(one, spoil) for one in value] if isinstance(value, list) else value


_FOREIGN = {
    *("name", "base", "task", "address", "backend", "operator", "host", "workflow", "run_id", "version"),
    *("text", "waits_for", "script", "directory", "survivors", "tolerated", "warnings", "node_name"),
}
"""Keys of our files whose values are free text."""


def _everywhere_in(key: str, value: object, spoil: Callable[[str], str]) -> object:
    if key in _FOREIGN and isinstance(value, str):
        return spoil(value)
    if key in _FOREIGN and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return [spoil(str(one)) for one in value]
    return _everywhere(value, spoil)


@pytest.mark.parametrize("is_ended", [True, False])
def test_s3_a_run_directory_of_another_user(tmp_path: Path, is_ended: bool) -> None:
    write_workflow(tmp_path, {"name": "t", "script": ["echo x; exit 3"]}, {"name": "u", "script": ["true"]})
    subprocess.run(command("run", "w.yaml", "--run-id", "r"), cwd=tmp_path, capture_output=True, check=False)
    ours = tmp_path / "sflow_output/r/.sflow"
    for file in ours.iterdir():
        if file.suffix not in (".json", ".jsonl", ".lock"):
            continue
        lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        spoilt = [json.dumps(_everywhere(json.loads(line), lambda text: text + HOSTILE)) for line in lines]
        file.write_text("\n".join(spoilt) + "\n")
    if not is_ended:
        (ours / "summary.json").unlink()
    for arguments in (("status", "r"), ("status", "r", "--json"), ("attach", "r"), ("logs", "--run", "r")):
        shown = on_terminal(*arguments, cwd=tmp_path)
        assert unsafe_in(shown) == "", arguments
    assert "seen" in on_terminal("status", "r", cwd=tmp_path)


def test_s3_a_live_run_followed_from_another_terminal(tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"{printing(HOSTILE)}; until [ -e {go} ]; do sleep 0.05; done; {printing(HOSTILE)}; exit 3"
    write_workflow(tmp_path, {"name": "t", "script": [script]})
    run = subprocess.Popen(
        command("run", "w.yaml", "--run-id", "r"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    log = tmp_path / "sflow_output/r/t/t.log"
    wait_until(lambda: log.exists() and log.stat().st_size > 0, "the first line")
    shown: dict[str, str] = {}
    viewers = [
        threading.Thread(
            target=lambda words=words: shown.update({words[0]: on_terminal(*words, cwd=tmp_path)})
        )
        for words in (("attach", "r"), ("logs", "-f", "t"))
    ]
    for viewer in viewers:
        viewer.start()
    threading.Timer(2.0, go.touch).start()
    for viewer in viewers:
        viewer.join(60)
    assert run.wait(30) == 1
    assert set(shown) == {"attach", "logs"}
    for words, text in shown.items():
        assert unsafe_in(text) == "", words
        assert text.count("red") >= 2, words


def test_s3_the_check_finds_what_it_looks_for() -> None:
    for bad in ("\x1b]0;x\x07", "\x1bc", "\x9b2J", "a\rb", "\u202e", "\x1b[2J"):
        assert unsafe_in(f"before{bad}after")
    assert unsafe_in("plain\r\n\x1b[31mred\x1b[0m\r\x1b[K1/2 done") == ""

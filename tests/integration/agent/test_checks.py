"""Probes against real servers, programs and certificates, good and bad, beside a real agent."""

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from protocol.messages.checks import ExecCheck, HttpCheck, LogCheck, LogPattern, Owner, Probe, TcpCheck
from protocol.messages.facts import ProbeTriggered, ProbeWaiting
from tests.integration.agent.fake_controller import FakeController, is_alive, spec
from tests.integration.agent.test_logs_and_probes import free_port, listener, python, triggered, wakeups
from tests.integration.agent.web import Answer, Handler, black_hole, endless, serving, stuck, trickle


def get(url: str, **of_check: object) -> HttpCheck:
    return HttpCheck(method="GET", url=url, **of_check)  # type: ignore[arg-type]


def readiness(
    http: HttpCheck | None = None,
    *,
    command: tuple[str, ...] = (),
    interval_s: float = 30.0,
    timeout_s: float = 5.0,
    threshold: int = 1,
    owner: Owner = "any",
) -> Probe:
    """Return a probe with a long interval, so that only eager polls are in time.

    The servers are the test's own.
    """
    check = ExecCheck(argv=command) if http is None else msgspec.structs.replace(http, owner=owner)
    return Probe(
        kind="readiness", checks=(check,), interval_s=interval_s, timeout_s=timeout_s, threshold=threshold
    )


def sleeper(controller: FakeController, task: str, *probes: Probe, **of_spec: object) -> None:
    """A task that does nothing but be probed."""
    controller.spawn(spec(task, "sleep", "600", probes=probes, **of_spec))  # type: ignore[arg-type]


def waits_for(controller: FakeController, task: str, text: str) -> str:
    """Wait until the agent has reported that the task's probe misses something with this text."""

    def said() -> list[str]:
        facts = controller.said(ProbeWaiting)
        return [fact.detail for fact in facts if fact.attempt.task == task and text in fact.detail]

    controller.until(said, f"{text!r} of {task}; said: {[f.detail for f in controller.said(ProbeWaiting)]}")
    return said()[0]


def is_ready(controller: FakeController, task: str) -> bool:
    return any(fact.attempt.task == task for fact in controller.said(ProbeTriggered))


def ok(handler: Handler) -> None:
    handler.say(200, b"fine")


# ---------------------------------------------------------------------- http


def test_a_good_answer_makes_ready_and_is_reported(controller: FakeController) -> None:
    with serving({"/health": ok}) as server:
        sleeper(controller, "a", readiness(get(f"{server.url}/health?x=1")))
        assert triggered(controller, "a").detail == "HTTP 200 OK"
        assert server.seen == [("GET", "/health?x=1")]


def test_redirects_are_followed_with_their_methods(controller: FakeController) -> None:
    seen: dict[str, bytes] = {}

    def keep(handler: Handler) -> None:
        seen[handler.command] = handler.body()
        handler.say(200)

    answers: dict[str, Answer] = {
        "/moved": lambda handler: handler.say(302, Location="/end"),
        "/kept": lambda handler: handler.say(307, Location="/end"),
        "/loop": lambda handler: handler.say(301, Location="/loop"),
        "/away": lambda handler: handler.say(301, Location="ftp://n0/"),
        "/end": keep,
    }
    with serving(answers) as server:

        def post(path: str) -> Probe:
            return readiness(HttpCheck(method="POST", url=server.url + path, body="hello"))

        sleeper(controller, "moved", post("/moved"))
        sleeper(controller, "kept", post("/kept"))
        triggered(controller, "moved")
        triggered(controller, "kept")
        assert seen == {"GET": b"", "POST": b"hello"}
        sleeper(controller, "loop", post("/loop"))
        sleeper(controller, "away", post("/away"))
        sleeper(controller, "expected", readiness(get(f"{server.url}/loop", status=(301,))))
        triggered(controller, "expected")
        assert "more than 10 redirects" in waits_for(controller, "loop", "redirects")
        assert "ftp://n0/" in waits_for(controller, "away", "leads to")


def test_conditions_on_head_and_body_must_hold(controller: FakeController) -> None:
    instances: list[str] = []

    def health(handler: Handler) -> None:
        body = f'{{"status": "up", "instances": [{", ".join(instances)}]}}'
        handler.say(200, body.encode(), Content_Type="application/json")

    with serving({"/health": health}) as server:
        url = f"{server.url}/health"
        sleeper(
            controller, "a", readiness(get(url, header=(("content-type", "json"),), body_contains='"up"'))
        )
        sleeper(controller, "b", readiness(get(url, json="len(instances) >= 3 and status == 'up'")))
        sleeper(controller, "c", readiness(get(url, status=(204,))))
        triggered(controller, "a")
        instances += ["1", "2"]
        waits_for(controller, "b", "len(instances) is 2")
        instances += ["3"]
        assert "len(instances) >= 3" in triggered(controller, "b").detail
        waits_for(controller, "c", "HTTP 200 OK")
        assert not is_ready(controller, "c")


def test_a_server_that_is_up_late_is_seen_at_once_whatever_the_interval(controller: FakeController) -> None:
    port = free_port()
    program = (
        "import time\nfrom http.server import *\ntime.sleep(0.5)\n"
        "class H(BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers()\n"
        "    def log_message(self, *a): pass\n"
        f"s = HTTPServer(('127.0.0.1', {port}), H)\nprint(time.monotonic(), flush=True)\ns.serve_forever()\n"
    )
    probe = readiness(get(f"http://localhost:{port}/"), interval_s=60.0)
    controller.spawn(python("a", program, probe))
    triggered(controller, "a")
    seen = time.monotonic()
    assert seen - float(controller.log("a")) < 0.15  # 5 ms to see the port, and the rest is a busy machine


def test_f25_200_after_503_is_seen_soon_and_counted_by_the_threshold(controller: FakeController) -> None:
    loaded_at = time.monotonic() + 0.5
    statuses: list[int] = []

    def health(handler: Handler) -> None:
        # Flaps once: one good answer between bad ones is not two in a row.
        is_up = time.monotonic() > loaded_at and (
            len(statuses) < 1 or statuses.count(200) != 1 or statuses[-1] != 200
        )
        statuses.append(200 if is_up else 503)
        handler.say(statuses[-1])

    with serving({"/health": health}) as server:
        probe = readiness(get(f"{server.url}/health"), interval_s=0.1, threshold=2)
        sleeper(controller, "a", probe)
        triggered(controller, "a")
        assert statuses[-2:] == [200, 200]
        assert 503 in statuses[statuses.index(200) :]


@pytest.mark.parametrize("how", ["stuck", "trickle", "endless", "black hole"])
def test_servers_that_never_end_cost_their_own_timeout_only(controller: FakeController, how: str) -> None:
    with (
        serving({"/stuck": stuck, "/trickle": trickle, "/endless": endless, "/ok": ok}) as server,
        black_hole() as hole,
    ):
        url = f"http://127.0.0.1:{hole}/" if how == "black hole" else f"{server.url}/{how}"
        check = get(url, body_contains="needle")
        sleeper(controller, "bad", readiness(check, timeout_s=0.3, interval_s=0.3))
        sleeper(controller, "good", readiness(get(f"{server.url}/ok")))
        triggered(controller, "good", within_s=3.0)
        text = "the first 1048576 bytes" if how == "endless" else "within 0.3 s"
        waits_for(controller, "bad", text)
        assert not is_ready(controller, "bad")
        controller.stop("bad")
        controller.cleared("bad")


def test_an_endless_body_is_ignored_without_a_condition_on_it(controller: FakeController) -> None:
    with serving({"/endless": endless}) as server:
        sleeper(controller, "a", readiness(get(f"{server.url}/endless")))
        triggered(controller, "a", within_s=3.0)


def test_an_answer_that_is_not_http_is_reported(controller: FakeController) -> None:
    def speak(server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed with the test
            while True:
                with server.accept()[0] as connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=speak, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
        sleeper(controller, "a", readiness(get(f"http://127.0.0.1:{port}/"), interval_s=0.5))
        assert "this is not an HTTP answer: 'SSH-2.0-OpenSSH" in waits_for(controller, "a", "SSH")
        port = free_port()
        sleeper(controller, "b", readiness(get(f"http://127.0.0.1:{port}/"), interval_s=0.5))
        assert waits_for(controller, "b", "refused") == f"127.0.0.1:{port}: connection refused"
        sleeper(controller, "c", readiness(get("http://no-such-host.invalid/"), interval_s=0.5))
        assert "no-such-host.invalid has no address" in waits_for(controller, "c", "no-such-host")


_NEW_CERTIFICATE = (
    "openssl",
    *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert, both = (tmp_path / name for name in ("key.pem", "cert.pem", "both.pem"))
    subprocess.run(
        [*_NEW_CERTIFICATE, "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both


def test_https_is_verified_by_default(controller: FakeController, certificate: Path) -> None:
    with serving({"/": ok}, certificate=certificate) as server, serving({"/": ok}) as plain:
        port = server.server_address[1]
        url, authority = f"https://localhost:{port}/", str(certificate.with_name("cert.pem"))
        sleeper(controller, "trusting", readiness(get(url, verify=False)))
        sleeper(controller, "given", readiness(get(url, ca_file=authority)))
        sleeper(controller, "system", readiness(get(url)))
        sleeper(controller, "name", readiness(get(f"https://127.0.0.1:{port}/", ca_file=authority)))
        sleeper(controller, "missing", readiness(get(url, ca_file="/no/such/file")))
        sleeper(
            controller,
            "plain",
            readiness(get(plain.url.replace("http:", "https:"), verify=False), timeout_s=2.0),
        )
        triggered(controller, "trusting")
        triggered(controller, "given")
        assert "certificate is not accepted" in waits_for(controller, "system", "certificate")
        assert (
            "certificate is not accepted: ip address mismatch"
            in waits_for(controller, "name", "certificate").lower()
        )
        waits_for(controller, "missing", "/no/such/file cannot be used: No such file")
        waits_for(controller, "plain", "it does not speak TLS; http:// would ask without (ssl")
        assert not any(is_ready(controller, task) for task in ("system", "name", "missing", "plain"))


@pytest.mark.parametrize(
    ("bound", "asked", "text"),
    [
        ("", "http://127.0.0.1:{other}/", "connection refused; the task listens on {port}"),
        ("127.0.0.1", "http://127.0.0.2:{port}/", "connection refused; the port is listening, only on 127.0.0.1:{port}"),
    ],
)  # fmt: skip
def test_public_20_and_11_where_a_server_does_listen_is_named_for_urls_too(
    controller: FakeController, bound: str, asked: str, text: str
) -> None:
    port, other = free_port(), free_port()
    server = f'import socket, time; s = socket.create_server(("{bound}", {port})); time.sleep(60)'
    probe = readiness(get(asked.format(port=port, other=other)), interval_s=0.5)
    controller.spawn(spec("a", sys.executable, "-c", server, probes=(probe,)))
    waits_for(controller, "a", text.format(port=port, other=other))


# ---------------------------------------------------------------------- many


def test_300_stuck_checks_beside_a_good_one(controller: FakeController) -> None:
    with black_hole() as hole, serving({"/ok": ok}) as server:
        stuck_check = readiness(get(f"http://127.0.0.1:{hole}/"), timeout_s=60.0)
        controller.spawn(
            *(spec(f"stuck{index}", "sleep", "600", probes=(stuck_check,)) for index in range(300))
        )
        controller.until(lambda: len(controller.facts) >= 300, "all of them started", 30.0)
        waits_for(controller, "stuck299", "has not answered")
        before, since = wakeups(controller.agent), time.monotonic()
        controller.until(lambda: time.monotonic() > since + 1.0, "a second of nothing")
        assert wakeups(controller.agent) - before < 400, "a look every 5 ms is all that stuck checks cost"
        sleeper(controller, "good", readiness(get(f"{server.url}/ok")))
        triggered(controller, "good")
        assert server.count("/ok") == 1
        controller.spawn(spec("job", "true"))
        controller.exited("job")


def test_f28_stalled_dns_lookups_do_not_delay_other_probes(controller: FakeController) -> None:
    # Lookups of names that no server knows take the resolver whatever time they take: in threads of their own.
    for index in range(20):
        sleeper(controller, f"lost{index}", readiness(get(f"http://host{index}.invalid/"), interval_s=0.2))
    with serving({"/ok": ok}) as server:
        sleeper(controller, "good", readiness(get(f"{server.url}/ok")))
        triggered(controller, "good")
        assert server.count("/ok") == 1


# ---------------------------------------------------------------------- programs


def test_a_program_is_asked_with_the_tasks_environment_and_directory(
    controller: FakeController, tmp_path: Path
) -> None:
    command = ("sh", "-c", 'echo "$WORD in $PWD"; test -e up')
    sleeper(controller, "a", readiness(command=command), env={"WORD": "hello"}, cwd=str(tmp_path))
    assert waits_for(controller, "a", "exited with 1") == f"sh exited with 1: hello in {tmp_path}"
    (tmp_path / "up").touch()
    assert triggered(controller, "a").detail == f"hello in {tmp_path}"
    assert controller.log("a") == ""


def test_f28_a_program_that_hangs_is_killed_with_its_group(
    controller: FakeController, tmp_path: Path
) -> None:
    script = f"sleep 600 & echo $! >> {tmp_path}/pids; echo $$ >> {tmp_path}/pids; echo waiting; wait"
    probe = readiness(command=("sh", "-c", script), timeout_s=0.3, interval_s=0.3)
    sleeper(controller, "a", probe)
    assert waits_for(controller, "a", "within 0.3 s") == "sh did not exit: waiting within 0.3 s"
    first = [int(pid) for pid in (tmp_path / "pids").read_text().split()[:2]]
    controller.until(lambda: not any(map(is_alive, first)), "both processes gone")


def test_no_program_outlives_its_task(controller: FakeController, tmp_path: Path) -> None:
    script = f"setsid sleep 600 & echo $! >> {tmp_path}/pids; echo $$ >> {tmp_path}/pids; wait"
    probe = Probe(kind="failure", checks=(ExecCheck(argv=("sh", "-c", script)),), timeout_s=60.0)
    go = tmp_path / "go"
    controller.spawn(spec("a", "sh", "-c", f"until test -e {go}; do sleep 0.01; done", probes=(probe,)))
    pids = tmp_path / "pids"
    controller.until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "the program")
    go.touch()
    controller.cleared("a")
    assert not any(is_alive(int(pid)) for pid in pids.read_text().split())


def test_a_missing_program_is_reported(controller: FakeController) -> None:
    sleeper(controller, "a", readiness(command=("no-such-program",)))
    assert 'program "no-such-program" is not on PATH' in waits_for(controller, "a", "no-such-program")


def test_a_talkative_program_is_not_held_up(controller: FakeController) -> None:
    program = "import sys\nfor _ in range(3000): sys.stdout.write('y' * 999 + chr(10))\nprint('done')"
    sleeper(controller, "a", readiness(command=(sys.executable, "-S", "-c", program)))
    assert triggered(controller, "a").detail.endswith("done")


# ---------------------------------------------------------------------- several conditions, other hosts


def test_all_conditions_or_any_of_them(controller: FakeController, tmp_path: Path) -> None:
    port = free_port()
    parts = (
        TcpCheck(port=port),
        LogCheck(pattern=LogPattern(pattern="loaded")),
        ExecCheck(argv=("test", "-e", str(tmp_path / "up"))),
    )
    every = Probe(kind="readiness", checks=parts, interval_s=0.1)
    either = Probe(kind="readiness", checks=parts, needs_all=False, interval_s=0.1)
    sleeper(controller, "either", either)
    assert waits_for(controller, "either", "is not in the log").startswith(
        f"port {port} is not listening, and "
    )
    controller.spawn(python("all", "print('loaded', flush=True)\n" + listener(port), every))
    assert "2 of 3 conditions: test exited with 1" in waits_for(controller, "all", "2 of 3")
    assert not is_ready(controller, "either"), "the port is another task's"
    (tmp_path / "up").touch()
    assert triggered(controller, "either").detail == "test exited with 0"
    detail = triggered(controller, "all").detail
    assert detail == f"port {port} is listening; loaded; test exited with 0"


def test_a_closed_port_of_another_host_is_reported(controller: FakeController) -> None:
    probe = Probe(kind="readiness", checks=(TcpCheck(port=80, host="no-such-host.invalid"),), interval_s=0.2)
    sleeper(controller, "a", probe)
    waits_for(controller, "a", "no-such-host.invalid has no address")


def test_a_failing_check_reports_what_is_missing_once_a_second_at_most(controller: FakeController) -> None:
    numbers = iter(range(10_000))

    def health(handler: Handler) -> None:
        handler.say(500 + next(numbers) % 2)

    with serving({"/": health}) as server:
        sleeper(controller, "a", readiness(get(f"{server.url}/"), interval_s=0.05))
        since = time.monotonic()
        controller.until(lambda: len(controller.said(ProbeWaiting)) >= 3, "three reports")
        assert time.monotonic() - since > 2.5
        assert server.count("/") > 20

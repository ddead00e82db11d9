"""Measures an agent from exec to its hello, and its resident memory then.

A controller's socket, and nothing else, answers it.
"""

import os
import select
import signal
import sys
import time

import zmq

from bench.measure import interleaved, report, seconds
from protocol.messages.config import AgentConfig
from protocol.session.codec import decode_from_agent
from sflow_ctl.runtime.fleet.keys import KeyPair
from sflow_ctl.runtime.fleet.local import LocalLauncher

RESIDENT: list[float] = []


def start_once() -> float:
    """Seconds until the hello has arrived."""
    controller, agent = KeyPair.make(), KeyPair.make()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.curve_server = True
    socket.curve_secretkey = controller.secret.encode()
    socket.curve_publickey = controller.public.encode()
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    endpoint = (f"tcp://127.0.0.1:{port}",)
    launcher = LocalLauncher()
    started = time.perf_counter()
    launcher.start(
        [
            AgentConfig(
                run_id="bench", node=0, node_name="localhost", control_endpoints=endpoint, log_endpoints=endpoint,
                controller_key=controller.public, public_key=agent.public, secret_key=agent.secret,
                marker="bench", run_directory="/nonexistent", nonce="", orphan_grace_s=5.0,
            )
        ]
    )  # fmt: skip
    frames = socket.recv_multipart()
    elapsed = time.perf_counter() - started
    hello = decode_from_agent(frames[1]).packet.messages[0]
    pid = getattr(hello, "pid")  # noqa: B009 - any message here is a hello
    status = open(f"/proc/{pid}/status").read()  # noqa: PTH123, SIM115
    RESIDENT.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
    os.kill(pid, signal.SIGTERM)
    poll = select.poll()
    poll.register(launcher.fileno, select.POLLIN)
    poll.poll(10_000)
    launcher.wait_all(10.0)
    socket.close()
    context.term()
    return elapsed


def main() -> None:
    """Seconds to the hello; megabytes resident."""
    imports = [sys.executable, "-I", "-c", "import zmq, msgspec"]
    results = interleaved(
        {"exec to hello": start_once, "python + zmq + msgspec": lambda: seconds(imports)}, 15
    )
    report(
        "agent_start", "s", results, {"resident at hello": f"{sorted(RESIDENT)[len(RESIDENT) // 2]:.1f} MB"}
    )


if __name__ == "__main__":
    main()

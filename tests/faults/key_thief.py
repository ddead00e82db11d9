"""What a hostile task does: reads what it can of every process, and tries the keys that it finds. Run by `test_keys.py`.

Prints one JSON object: in which processes' environments and command lines it found a configuration of agents, and what
the controller answered to each key that it could derive from one.
"""

import base64
import contextlib
import json
import sys
from pathlib import Path

import zmq

from protocol.messages.config import StepConfig
from protocol.messages.facts import Hello
from protocol.messages.node import Inventory
from protocol.messages.packets import FromAgentPacket
from protocol.session.codec import decode_step_config, encode
from sflow_ctl.runtime.fleet.keys import KeyPair

ANSWER_MS = 3000


def found() -> dict[str, StepConfig]:
    """Return the configurations in environments and command lines, by process."""
    configs = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        for name in ("environ", "cmdline"):
            with contextlib.suppress(OSError):
                for text in (process / name).read_bytes().split(b"\0"):
                    if text.startswith(b"SFLOW_AGENT_CONFIG=") and len(text) > 40:
                        comm = (process / "comm").read_text().strip()
                        raw = base64.b64decode(text.partition(b"=")[2])
                        configs[f"{process.name} {comm} {name}"] = decode_step_config(raw)
    return configs


def answers(config: StepConfig) -> list[str]:
    """Return how many bytes the controller answers to each node's key, on each of its addresses."""
    from protocol.session.keys import agent_secret

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    said = []
    for node in range(len(config.nodes)):
        pair = KeyPair.of(agent_secret(config.key_seed, node))
        for endpoint in config.common.control_endpoints:
            socket = context.socket(zmq.DEALER)
            socket.linger = 0
            socket.curve_publickey, socket.curve_secretkey = pair.public.encode(), pair.secret.encode()
            socket.curve_serverkey = config.common.controller_key.encode()
            socket.connect(endpoint)
            hello = Hello(
                version=(1, 0), install_path="", session="thief", node=node, agent_incarnation=1 << 62,
                controller_incarnation=0, pid=1, shares_run_directory=True, key=KeyPair.make().public,
                inventory=Inventory(host="h", cpus=1, cpus_online=1, memory_bytes=1),
            )  # fmt: skip
            socket.send(encode(FromAgentPacket(session="thief", messages=(hello,))))
            said.append(f"node {node}: {len(socket.recv()) if socket.poll(ANSWER_MS) else 0} bytes")
            socket.close()
    context.term()
    return said


def main() -> None:
    """Look, try, and print."""
    configs = found()
    ours = {where: one for where, one in configs.items() if one.common.run_directory.startswith(sys.argv[1])}
    tried = sorted({answer for config in ours.values() for answer in answers(config)})
    secrets = sorted({config.common.secret_key for config in ours.values()} - {""})
    print(json.dumps({"found": sorted(ours), "answers": tried, "secrets": secrets}))


if __name__ == "__main__":
    main()

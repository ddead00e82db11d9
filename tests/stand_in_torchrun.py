"""Stands in for `torchrun`, which needs a gigabyte of libraries.

Takes its options from the same variables (`PET_...`, as torch/distributed/argparse_util.py does), meets its peers over
TCP, and starts the program once per process with the same variables (RANK, LOCAL_RANK, WORLD_SIZE, ...). Options on
the command line win.
"""

import argparse
import os
import socket
import subprocess
import sys
import time


def main() -> int:
    """The first status of a process that is not 0."""
    options = argparse.ArgumentParser()
    for name, default in (("nnodes", "1"), ("nproc-per-node", "1"), ("node-rank", "0")):
        options.add_argument(f"--{name}", type=int, default=from_environment(name, default))
    options.add_argument("--master-addr", default=from_environment("master-addr", "127.0.0.1"))
    options.add_argument("--master-port", type=int, default=from_environment("master-port", "29500"))
    options.add_argument("program")
    options.add_argument("arguments", nargs=argparse.REMAINDER)
    given = options.parse_args()
    address = (given.master_addr.strip("[]"), given.master_port)
    counts = lead(address, given) if given.node_rank == 0 else follow(address, given)
    first = sum(counts[: given.node_rank])
    processes = [
        subprocess.Popen(
            [sys.executable, given.program, *given.arguments],
            env={
                **os.environ,
                "RANK": str(first + local),
                "LOCAL_RANK": str(local),
                "GROUP_RANK": str(given.node_rank),
                "WORLD_SIZE": str(sum(counts)),
            },
        )
        for local in range(given.nproc_per_node)
    ]
    return next((status for status in [one.wait() for one in processes] if status), 0)


def from_environment(name: str, default: str) -> str:
    """Return the value of an option that is not given."""
    return os.environ.get(f"PET_{name.upper().replace('-', '_')}", default)


def lead(address: tuple[str, int], given: argparse.Namespace) -> list[int]:
    """Return how many processes each node has, which every other node reports."""
    counts = {0: given.nproc_per_node}
    with socket.create_server(address) as server:
        server.settimeout(60)
        peers = []
        while len(counts) < given.nnodes:
            peer = server.accept()[0].makefile("rw")
            rank, count = map(int, peer.readline().split())
            counts[rank] = count
            peers.append(peer)
        ordered = [counts[rank] for rank in range(given.nnodes)]
        for peer in peers:
            print(*ordered, file=peer, flush=True)
    return ordered


def follow(address: tuple[str, int], given: argparse.Namespace) -> list[int]:
    """The same, from the first node; it may not be there yet."""
    deadline = time.monotonic() + 60
    while True:
        try:
            peer = socket.create_connection(address, timeout=60).makefile("rw")
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    print(given.node_rank, given.nproc_per_node, file=peer, flush=True)
    return list(map(int, peer.readline().split()))


if __name__ == "__main__":
    sys.exit(main())

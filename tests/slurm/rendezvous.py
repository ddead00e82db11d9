"""A distributed program without a framework.

Meets at MASTER_ADDR:MASTER_PORT as torch.distributed's `env://` does, sums over all ranks by way of rank 0, and prints
what came of it.

`rendezvous.py [--fail-rank N]` is one rank. `rendezvous.py --nproc-per-node N --node-rank K --nnodes M ...` starts N ranks
on this node and waits for them, as torchrun does.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time

PATIENCE_S = 60.0


def say(line: str) -> None:
    """In one piece: several workers share a log, and `print` without a buffer writes a line's end by itself."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """The exit status of this rank, or the highest of those it started."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fail-rank", type=int)
    parser.add_argument("--nproc-per-node", type=int)
    parser.add_argument("--node-rank", type=int)
    parser.add_argument("--nnodes", type=int)
    options = parser.parse_args()
    if options.nproc_per_node is None:
        return one_rank(options.fail_rank)
    rest = [] if options.fail_rank is None else ["--fail-rank", str(options.fail_rank)]
    ranks = []
    for local in range(options.nproc_per_node):
        place = {
            "RANK": options.node_rank * options.nproc_per_node + local,
            "LOCAL_RANK": local,
            "WORLD_SIZE": options.nnodes * options.nproc_per_node,
        }
        env = {**os.environ, **{name: str(value) for name, value in place.items()}}
        ranks.append(subprocess.Popen([sys.executable, __file__, *rest], env=env))
    return max(abs(rank.wait()) for rank in ranks)


def one_rank(fail_rank: int | None) -> int:
    """Sums rank + 1 over all ranks, and which host and device each has."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = os.environ["CUDA_VISIBLE_DEVICES"].split(",")[int(os.environ["LOCAL_RANK"])]
    own = {"rank": rank, "value": rank + 1, "place": f"{socket.gethostname()}:{device}"}
    place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if fail_rank == rank:
        say(f"rank {rank} gives up")
        return 3
    total = serve(place, own, world) if rank == 0 else ask(place, own)
    say(f"rank {rank} of {world}: sum {total['sum']} over {total['places']}")
    return 0


def serve(place: tuple[str, int], own: dict[str, object], world: int) -> dict[str, object]:
    """Serve as rank 0: receive from the others, answer all with the result."""
    known = [own]
    connections = []
    with socket.create_server(place) as server:
        while len(known) < world:
            connection, _ = server.accept()
            stream = connection.makefile("rw")
            known.append(json.loads(stream.readline()))
            connections.append(stream)
        known.sort(key=lambda one: int(str(one["rank"])))
        total = {
            "sum": sum(int(str(one["value"])) for one in known),
            "places": " ".join(str(one["place"]) for one in known),
        }
        for stream in connections:
            print(json.dumps(total), file=stream, flush=True)
    return total


def ask(place: tuple[str, int], own: dict[str, object]) -> dict[str, object]:
    """Every other rank; rank 0 may be later than this one."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with socket.create_connection(place) as connection, connection.makefile("rw") as stream:
                print(json.dumps(own), file=stream, flush=True)
                answer: dict[str, object] = json.loads(stream.readline())
                return answer
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())

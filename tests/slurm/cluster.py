"""A Slurm cluster by hand. Needs root.

`python -m tests.slurm.cluster up --nodes 4`, then `exec head srun -N4 hostname`, `cut node2`, `down`.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.slurm import record
from tests.slurm.rig import Cluster, reason_for_none
from tests.slurm.settings import HEAD, Settings

FAULTS: dict[str, Callable[[Cluster, str], object]] = {
    "cut": Cluster.cut,
    "heal": Cluster.heal,
    "kill-slurmd": Cluster.kill_slurmd,
    "start-slurmd": Cluster.start_slurmd,
    "power-off": Cluster.power_off,
    "power-on": Cluster.power_on,
    "add-black-hole": Cluster.add_black_hole_address,
}


def main() -> int:
    """The exit status."""
    arguments = _parser().parse_args()
    directory = record.directory_of(arguments.name)
    reason = reason_for_none()
    if reason is not None:
        print(f"no Slurm cluster can be started here: {reason}", file=sys.stderr)
        return 3
    if arguments.verb == "up":
        return _up(arguments, directory)
    if arguments.verb == "down":
        record.end(directory)
        return 0
    cluster = Cluster.at(directory)
    if cluster is None:
        print(f"no cluster {arguments.name!r} is up", file=sys.stderr)
        return 2
    return _use(cluster, arguments)


def _up(arguments: argparse.Namespace, directory: Path) -> int:
    settings = Settings(
        nodes=arguments.nodes,
        gpus=arguments.gpus,
        cpus=arguments.cpus,
        time_limit=arguments.time_limit,
        process_tracking=arguments.process_tracking,
        options=dict(option.split("=", 1) for option in arguments.set),
    )
    cluster = Cluster.start(settings, directory, ends_with_us=False)
    print(f"up: {' '.join(cluster.nodes)}; files in {directory}")
    print("use: python -m tests.slurm.cluster exec head srun -N2 hostname")
    return 0


def _use(cluster: Cluster, arguments: argparse.Namespace) -> int:
    match arguments.verb:
        case "status":
            print(cluster.slurm("sinfo", "-Nl"), cluster.slurm("squeue"), sep="\n", end="")
            for node in cluster.nodes:
                for process in cluster.processes_in_node(node):
                    print(f"{node} {process.pid} {process.command}")
        case "exec":
            command = cluster.argv(arguments.node, arguments.command)
            os.execvp(command[0], command)
        case "restore":
            cluster.restore()
        case "loss":
            cluster.loss(arguments.node, arguments.percent)
        case "slow":
            cluster.slow(arguments.node, arguments.kbit, arguments.latency_ms)
        case verb:
            said = FAULTS[verb](cluster, arguments.node)
            if said is not None:
                print(said)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.cluster", description=__doc__)
    parser.add_argument("--name", default="by-hand", help="several clusters can be up, under different names")
    verbs = parser.add_subparsers(dest="verb", required=True)
    defaults = Settings()
    up = verbs.add_parser("up", help="start a cluster, in place of the one that is up")
    up.add_argument("--nodes", type=int, default=defaults.nodes)
    up.add_argument("--gpus", type=int, default=defaults.gpus, help="per node")
    up.add_argument("--cpus", type=int, default=defaults.cpus, help="per node")
    up.add_argument("--time-limit", default=defaults.time_limit, help="of a job that asks for none")
    up.add_argument(
        "--process-tracking", choices=["linuxproc", "pgid", "cgroup"], default=defaults.process_tracking
    )
    up.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a line of slurm.conf")
    verbs.add_parser("down", help="end the cluster and remove its files")
    verbs.add_parser("status", help="nodes, jobs, processes")
    verbs.add_parser("restore", help="no jobs, all nodes idle, all links whole")
    execute = verbs.add_parser("exec", help=f"run a command on a node or on {HEAD}")
    execute.add_argument("node")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    for verb in (*FAULTS, "loss", "slow"):
        fault = verbs.add_parser(verb)
        fault.add_argument("node")
        if verb == "loss":
            fault.add_argument("percent", type=float)
        if verb == "slow":
            fault.add_argument("kbit", type=int)
            fault.add_argument("latency_ms", type=int)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        sys.exit(f"cluster: {error}")

"""A fleet without a fault, for tests to put one into."""

from collections.abc import Callable

import msgspec

from protocol.messages.inspection import Directory, Engine, Limit, MeshResult, NodeReport
from protocol.messages.node import Gpu, Inventory
from sflow_ctl.doctor.facts import Clock, Examination, ExaminedNode, SlurmFacts
from sflow_ctl.doctor.mesh import targets

GIB = 1 << 30


def directory(role: str, path: str, **changes: object) -> Directory:
    """With room for everything."""
    whole = Directory(
        role=role,
        path=path,
        file_system="nfs4",
        total_bytes=1000 * GIB,
        free_bytes=900 * GIB,
        total_files=10**8,
        free_files=10**8,
        write_s=0.01,
    )
    return msgspec.structs.replace(whole, **changes)


def report(index: int) -> NodeReport:
    """Of the node with this index."""
    return NodeReport(
        kernel="6.1",
        versions=(("driver", "580.1"), ("python", "3.12.1"), ("sflow-ctl", "0.1.0")),
        addresses=(
            ("docker0", "172.17.0.1"),
            ("eth0", f"10.0.0.{index}"),
            ("ib0", f"10.9.0.{index}"),
            ("lo", "::1"),
        ),
        mesh_port=4000 + index,
        memory_available_bytes=900 * GIB,
        limits=(
            Limit(name="nofile", soft=1024, hard=1 << 20),
            Limit(name="nproc", soft=100_000, hard=100_000),
            Limit(name="memlock", soft=None, hard=None),
            Limit(name="fsize", soft=None, hard=None),
        ),
        slurm=(("SLURM_CPUS_ON_NODE", "64"), ("SLURM_GPUS_ON_NODE", "2")),
        directories=(
            directory("output directory", "/o"),
            directory("shared memory", "/dev/shm"),
            directory("temporary files", "/tmp"),
        ),
        engines=(Engine(name="apptainer", path="/usr/bin/apptainer", version="1.3"),),
    )


def node(index: int) -> ExaminedNode:
    """n0, n1..."""
    return ExaminedNode(
        index=index,
        name=f"n{index}",
        address=f"10.0.0.{index}",
        install_path="/opt/sflow",
        shares_run_directory=True,
        inventory=Inventory(
            host=f"n{index}",
            cpus=64,
            cpus_online=64,
            memory_bytes=1000 * GIB,
            gpus=tuple(Gpu(index=n, uuid=f"GPU-{n}", name="H200", memory_bytes=140 * GIB) for n in range(2)),
            counts_gpus=True,
            open_files=(1024, 1 << 20),
        ),
        clock=Clock(ahead_s=0.0001, uncertainty_s=0.0002),
        report=report(index),
    )


def fleet(count: int = 4) -> Examination:
    """A job with these nodes, all of whose connections work."""
    nodes = [node(index) for index in range(count)]
    return Examination(
        host="head",
        version="0.1.0",
        python="3.12.1",
        output_dir="/o",
        nodes=tuple(connected(nodes)),
        called_after_s=0.5,
        slurm=SlurmFacts(job_id="7", version="23.11.4", partition="main", left_s=3600.0),
    )


def connected(
    nodes: list[ExaminedNode], problem: Callable[[int, int, str], str] = lambda source, target, interface: ""
) -> list[ExaminedNode]:
    """The nodes after they have tried to reach each other; `problem` says why one does not reach another."""
    return [
        msgspec.structs.replace(
            one,
            mesh=tuple(
                MeshResult(
                    node=target.node,
                    interface=target.interface,
                    address=target.address,
                    is_primary=target.is_primary,
                    connect_s=0.0003,
                    problem=problem(one.index, target.node, target.interface),
                )
                for target in called
            ),
        )
        for one, called in zip(nodes, targets(nodes), strict=True)
    ]

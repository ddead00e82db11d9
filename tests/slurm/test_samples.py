"""Samples that sflow 0.3.1 carries, run on real nodes: unchanged files, and stand-ins for GPUs, images and engines.

They are read from the package, which is installed for it, so this runs where `SFLOW_REFERENCE` or `CI` is set. Sizes, the account
and the partition are given as a user would: with `--set`, and a second file where an operator needs what this Slurm lacks.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.reference.install import NotInstalledError, environment, samples_directory
from tests.slurm.rig import Cluster
from tests.slurm.runs import fresh
from tests.slurm.ways import WAYS, run

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

HEADER = Path("/usr/include/slurm/spank.h")
SITE = ("--set SLURM_ACCOUNT=lab", "--set SLURM_PARTITION=main")
NVIDIA_SMI = """#!/bin/bash
# The cards of this node: four, or those that -i names.
node=$(hostname -s); cards=0,1,2,3
while [ $# -gt 0 ]; do case $1 in
  -i) cards=$2; shift;;
  -L) form=list;;
  --query-gpu=*) form=${1#*=};;
esac; shift; done
for card in ${cards//,/ }; do case ${form-none} in
  list) echo "GPU $card: stand-in (UUID: GPU-$node-$card)";;
  uuid) echo "GPU-$node-$card";;
  index,uuid) echo "$card, GPU-$node-$card";;
esac; done
"""

ENGINE = """#!/usr/bin/python3 -u
# Serves HTTP where its options say; as the front end, once all servers of its configuration have answered.
import http.server, re, sys, urllib.request
words = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"served")
    def log_message(self, *_): pass
if words[0] == "disaggregated":
    text = open(words[words.index("-c") + 1]).read()
    host, port = re.search(r"hostname: (\\S+)", text)[1], 8000
    urls = re.findall(r"^ +- (\\S+:\\d+)", text, re.M)
    print("servers", len([urllib.request.urlopen("http://" + one, timeout=10).read() for one in urls]))
else:
    host, port = words[words.index("--host") + 1], int(words[words.index("--port") + 1])
server = http.server.ThreadingHTTPServer((host, port), Handler)
print("Application startup complete")
server.serve_forever()
"""
LAUNCH = """#!/bin/bash
[ "$SLURM_PROCID" = 0 ] || exec sleep 1000
exec "$@"
"""
CLIENT = """#!/bin/bash
while [ "$1" != --url ]; do shift; done
exec python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' "$2"
"""


@pytest.fixture(scope="module")
def samples() -> Path:
    """Return the directory of the package's Slurm samples."""
    if not (os.environ.get("SFLOW_REFERENCE") or os.environ.get("CI")):
        pytest.skip("set SFLOW_REFERENCE=1 to run samples of nv-sflow, which is installed for it")
    try:
        return samples_directory(environment()) / "self_contained" / "slurm"
    except NotInstalledError as error:
        pytest.skip(str(error))


@pytest.fixture
def programs(cluster: Cluster) -> Path:
    """Return a directory with stand-ins for nvidia-smi, an engine and its client."""
    directory = cluster.shared / "programs"
    directory.mkdir(exist_ok=True)
    texts = {
        "nvidia-smi": NVIDIA_SMI,
        "trtllm-serve": ENGINE,
        "trtllm-llmapi-launch": LAUNCH,
        "aiperf": CLIENT,
        "pip": "#!/bin/sh",
    }
    for name, text in texts.items():
        (directory / name).write_text(text + "\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def images(cluster: Cluster) -> Iterator[None]:
    """Let Slurm accept the options of a container plugin."""
    if not HEADER.exists():
        pytest.skip("libslurm-dev is not installed")
    library = cluster.shared / "container_plugin.so"
    source = Path(__file__).with_name("container_plugin.c")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True, capture_output=True
    )
    configuration = cluster.directory / "etc" / "plugstack.conf"
    configuration.write_text(f"required {library}\n")
    yield
    configuration.unlink()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way to run a file."""
    name: str = request.param
    return name


def model(cluster: Cluster) -> str:
    """Return the option for the model that most samples name."""
    (cluster.shared / "model").mkdir(exist_ok=True)
    return f"--artifact LOCAL_MODEL_PATH=fs://{cluster.shared}/model"


def test_gpu_indices(cluster: Cluster, samples: Path, programs: Path, way: str) -> None:
    """Five tasks one after the other that keep their cards to the end: which is on which node is in the sample's comments."""
    path = samples / "gpu_indices.yaml"
    done = run(cluster, way, path, *SITE, model(cluster), nodes=4, gres="gpu:4", programs=programs)
    assert done.status == 0, done.printed
    assert done.nodes() == {
        "pin_low": ["node0"],
        "pin_low_again": ["node1"],
        "backfill_high": ["node0"],
        "fanout": ["node2", "node3"],
        "flexible": ["node1"],
    }
    assert done.log("fanout")[0].endswith("fanout GPUs: 0,1")
    assert done.log("flexible")[0] == "flexible GPUs: 2,3"


def test_resource_release_after(cluster: Cluster, samples: Path, programs: Path) -> None:
    """Cards come free at readiness, at completion, or never."""
    path = samples / "resource_release_after.yaml"
    done = run(
        cluster, "with an allocation", path, *SITE, model(cluster), "-e --gres=gpu:4", programs=programs
    )
    assert done.status == 0, done.printed
    said = "\n".join(done.log("client"))
    cards = dict(re.findall(r"^(.*) GPUs - \[([\d, ]*)\]$", said, re.MULTILINE))
    assert cards["Persistent Worker 0"] == "0"
    assert cards["Worker Release After Ready 0"] == "1"
    assert {cards["Worker Release After Completion 0"], cards["Worker Release After Completion 1"]} == {
        "2",
        "3",
    }
    assert cards["Third Batch Worker 0"] == "1"  # that of the one that is ready and runs on


def test_multi_backend(cluster: Cluster, samples: Path, images: None, way: str) -> None:
    """Two backends, whose nodes are different ones where they share a job."""
    path = samples / "multi_backend.yaml"
    options = ("--set SLURM_ACCOUNT=lab", "--set PARTITION_A=main", "--set PARTITION_B=main")
    done = run(cluster, way, path, *options, model(cluster), nodes=3)
    assert done.status == 0, done.printed
    nodes = done.nodes()
    assert {task: len(names) for task, names in nodes.items()} == {"task_a": 2, "task_b": 1}
    assert way != "in a job" or not set(nodes["task_a"]) & set(nodes["task_b"])
    said = "\n".join(done.log("task_b"))
    assert re.search(r"task_b backend=cluster_b job=\d+ nodes=node\d$", said, re.MULTILINE)


def test_auto_replica(cluster: Cluster, samples: Path) -> None:
    """Where each replica is, as another task's expressions say it."""
    path = samples / "auto_replica.yaml"
    done = run(cluster, "in a job", path, *SITE, model(cluster), nodes=3, gres="gpu:4")
    assert done.status == 0, done.printed
    said = "\n".join(done.log("client"))
    assert "Prefill 0 Name - node0" in said
    assert "Prefill 1 GPUs - [2, 3]" in said
    assert "Decode 0 Node 1 Name - node2" in said


def test_gpu_placement_matrix(cluster: Cluster, samples: Path, programs: Path, images: None) -> None:
    """Every task of the sample checks its own cards, by UUID, on each of its nodes."""
    path = samples / "gpu_placement_matrix.yaml"
    done = run(cluster, "in a job", path, *SITE, model(cluster), nodes=2, gres="gpu:4", programs=programs)
    assert done.status == 0, done.printed
    assert done.log("verify_disjoint") == ["OK: concurrent tasks held disjoint GPUs"]
    held = [line for line in done.log("boxed_multinode_high") if "confirmed by UUID" in line]
    assert [re.sub(r"^\d+: ", "", line) for line in held] == [
        f"OK: {node} holds host GPU(s) 2,3, confirmed by UUID" for node in ("node0", "node1")
    ]


def test_trtllm_serve_disagg(cluster: Cluster, samples: Path, programs: Path, images: None, way: str) -> None:
    """Servers in job steps on two nodes, a front end that finds them by their files, and a sweep of two clients."""
    more = cluster.shared / "here.yaml"  # this Slurm has no PMIx
    more.write_text(
        'version: "0.1"\noperators: [{name: trtllm_container, mpi: none}, {name: aiperf, mpi: none}]\n'
        "backends: [{name: slurm_cluster, extra_args: [--gpus-per-node=4, --ntasks-per-node=8]}]\n"
        "workflow: {name: trtllm_server_disagg}\n"
    )
    sizes = "--set SLURM_NODES=2 --set NUM_CTX_SERVERS=2 --set NUM_GEN_SERVERS=2 --set SLURM_TIMELIMIT=10"
    options = (f"-f {more}", *SITE, model(cluster), sizes)
    job: dict[str, str | int] = {"gres": "gpu:4", "ntasks_per_node": 8}
    path = samples / "trtllm_serve_disagg.yaml"
    done = run(cluster, way, path, *options, nodes=2, programs=programs, **job)
    assert done.status == 0, done.printed
    assert any(line.endswith("servers 4") for line in done.log("frontend_server")), done.log(
        "frontend_server"
    )
    for client in ("benchmark_20", "benchmark_40"):
        assert "served" in done.log(client)
    places = {name: nodes for name, nodes in done.nodes().items() if "_server_" in name and name[0] in "pd"}
    assert sorted(nodes[0] for nodes in places.values()) == ["node0", "node0", "node1", "node1"]

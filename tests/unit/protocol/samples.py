"""One sample of every message, with every field set: the golden files are made of these."""

from protocol.diagnosis.signatures import Signature
from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.base import Message
from protocol.messages.checks import ExecCheck, HttpCheck, LogCheck, LogPattern, Probe, TcpCheck
from protocol.messages.facts import (
    ExitCause,
    FromAgent,
    Goodbye,
    Hello,
    Inspected,
    LaunchFailed,
    Leased,
    LiveRank,
    LogSearch,
    NodeDescribed,
    Notice,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankIdle,
    RankStarted,
    Sampled,
    SideCommandEnded,
    Terminated,
    Uploaded,
    Uploading,
)
from protocol.messages.inspection import (
    Directory,
    Engine,
    GpuHealth,
    Leftover,
    LeftSpool,
    Limit,
    MeshResult,
    MeshTarget,
    NodeReport,
    Quota,
)
from protocol.messages.logs import LogAck, LogChunk
from protocol.messages.monitor import (
    LogWindow,
    Mark,
    MarkPatterns,
    MonitorOrders,
    NodeMonitor,
    RankWindow,
    Reading,
    SampledScope,
)
from protocol.messages.node import Gpu, GpuUser, Inventory
from protocol.messages.orders import (
    EndStep,
    Enrolled,
    Inspect,
    Lease,
    Leave,
    LogMatched,
    Refused,
    Reintroduce,
    Release,
    SamplesStored,
    Spawn,
    Stop,
    ToAgent,
    Unwatch,
    UploadFiles,
    Watch,
    Welcome,
)
from protocol.messages.rank_spec import (
    Container,
    HangPolicy,
    PortBlock,
    RankSpec,
    RequiredFile,
    RequiredJson,
    SideCommand,
    Stopping,
    Success,
    TaskFile,
)
from protocol.messages.uploads import FileUpload, StorageTarget, UploadedFile, UploadOutcome, UploadProblem

ATTEMPT = AttemptId("decode_3", 2)
RANK = RankId(ATTEMPT, 1)
EXITED = RankExited(
    rank=RANK,
    exit_code=3,
    runtime_s=1.5,
    log_bytes=100,
    cleared=False,
    port_conflict="port 15000",
    was_asked=True,
    cause=ExitCause(
        word="port_in_use",
        text="port 80 was in use",
        hint="use another one",
        line="bind: Address already in use",
        line_number=7,
        offset=123,
    ),
    has_listened=True,
)
KILLED = RankExited(rank=RANK, signal=9, runtime_s=0.5)
TRIGGERED = ProbeTriggered(attempt=ATTEMPT, rank=1, kind="readiness", part=1, detail="port 80 is listening")
SPEC = RankSpec(
    rank=RANK,
    argv=("bash", "-c", "true"),
    env={"A": "1"},
    cwd="/tmp",
    log="decode_3/decode_3.log",
    earlier_log="decode_3/decode_3.attempt-1.log",
    stopping=Stopping(
        command=SideCommand(argv=("nginx", "-s", "quit"), timeout_s=7.5), signal=2, grace_s=2.5
    ),
    hang=HangPolicy(
        no_output_s=600.0,
        no_gpu_use_s=900.0,
        command=SideCommand(argv=("bash", "-c", "py-spy dump"), timeout_s=30.0),
        is_always=True,
    ),
    probes=(
        Probe(
            kind="readiness",
            checks=(TcpCheck(port=80, host="127.0.0.1", owner="any"),),
            delay_s=1.0,
            interval_s=2.0,
            timeout_s=3.0,
            threshold=4,
            also=(Probe(kind="readiness", checks=(TcpCheck(port=81),), part=1),),
        ),
        Probe(
            kind="readiness",
            checks=(
                HttpCheck(
                    method="POST",
                    url="https://n0:8000/health",
                    headers=(("A", "b"),),
                    body="{}",
                    status=(200, 204),
                    header=(("Content-Type", "json"),),
                    body_contains="ok",
                    json="len(instances) >= 6",
                    verify=False,
                    ca_file="/etc/ca.pem",
                    owner="run",
                ),
                ExecCheck(argv=("nvidia-smi", "-L")),
            ),
            needs_all=False,
            on_node="each",
        ),
        Probe(
            kind="failure",
            checks=(
                LogCheck(
                    pattern=LogPattern(pattern="x.*", is_regex=True, count=2, labels="merged"), task="other"
                ),
            ),
        ),
    ),
    launch_kind="step",
    stream=True,
    gpus=(0, 1),
    required_paths=(("MODEL", "/models/a"),),
    files=(TaskFile(path="etc/router.yaml", content="port: 1", mode=0o755),),
    success_exit_codes=(0, 3),
    is_log_direct=True,
    labels="srun",
    success=Success(
        files=(RequiredFile(path="/run/a/*.json", min_bytes=10),),
        json=(RequiredJson(path="/run/a/r.json", where="rate > 0"),),
        require=("done",),
        forbid=("ERROR",),
    ),
    container=Container(
        engine="podman",
        image="i:1",
        workdir="/w",
        mounts=("/a:/b:ro",),
        directories=("/ws",),
        gpus="all",
        requests_gpus=False,
        pass_envs=False,
        is_writable=True,
        mounts_home=False,
        remaps_root=True,
        network="host",
        extra_args=("--x",),
        docker_host="ssh://h",
        context="c",
    ),
)
INVENTORY = Inventory(
    host="n07",
    cpus=8,
    cpus_online=16,
    cpus_given=8,
    memory_bytes=1 << 40,
    gpus=(
        Gpu(
            index=0,
            uuid="GPU-1",
            name="H200",
            memory_bytes=1 << 37,
            simulated=True,
            used_bytes=1 << 30,
            users=(GpuUser(pid=12, owner="u", program="python", memory_bytes=1 << 29),),
        ),
    ),
    counts_gpus=True,
    gpu_problems=("GPU 1 does not answer: GPU is lost",),
    python="3.11.7",
    open_files=(1024, -1),
)
REPORT = NodeReport(
    kernel="6.1",
    versions=(("sflow-ctl", "0.1.0"),),
    addresses=(("eth0", "10.0.0.7"),),
    mesh_port=40_000,
    cpu_quota=1.5,
    memory_limit_bytes=1 << 33,
    memory_available_bytes=1 << 32,
    limits=(Limit(name="nofile", soft=1024, hard=None),),
    slurm=(("SLURM_CPUS_ON_NODE", "8"),),
    directories=(
        Directory(
            role="output directory",
            path="/o",
            file_system="nfs4",
            total_bytes=1 << 40,
            free_bytes=1 << 39,
            total_files=100,
            free_files=99,
            write_s=0.5,
            quota=Quota(kib=1, kib_limit=2, files=3, files_limit=4),
            problem="read-only",
        ),
    ),
    engines=(Engine(name="docker", path="/usr/bin/docker", version="27", problem="no permission"),),
    leftovers=(Leftover(run="r-1", pids=(7,), has_agent=True, containers=("podman c",)),),
    spools=(LeftSpool(path="/tmp/sflow-0-r-1", run="r-1", size_bytes=4096),),
    gpu_health=(GpuHealth(index=0, uncorrected_errors=1, is_remap_pending=True, has_remap_failed=True),),
    has_infiniband=True,
    unanswered=(("leftovers", "no answer within 10 s"),),
)
TO_AGENT: tuple[ToAgent, ...] = (
    Welcome(
        session="s",
        incarnation=2,
        kill=(RANK,),
        heartbeat_s=1.0,
        orphan_grace_s=5.0,
        secrets=(("TOKEN", "hunter2"),),
        monitoring=MonitorOrders(
            monitors=(
                NodeMonitor(
                    scopes=(SampledScope(scope="cpu", interval_ms=500),),
                    tasks=("decode_3",),
                    gpu_fields=("index", "power.draw"),
                    script="iostat 1 > io.log",
                ),
            ),
            windows=(
                LogWindow(
                    tasks=("decode_3",),
                    start=MarkPatterns(patterns=(LogPattern(pattern="BEGIN"),), is_last=True),
                    end=MarkPatterns(patterns=(LogPattern(pattern="^END", is_regex=True),)),
                ),
            ),
        ),
        signatures=(
            Signature(
                name="mine",
                reason="license",
                pattern="no licen[cs]e",
                text="{line}!",
                hint="ask",
                contains=("licen",),
            ),
        ),
    ),
    Refused(code="version-mismatch", reason="2.0 is not 1.0"),
    Enrolled(key="k" * 40),
    Reintroduce(),
    Spawn(ranks=(SPEC,)),
    Stop(attempt=ATTEMPT, grace_s=5.0, is_forced=True, is_hang=True),
    EndStep(part=RANK, mark_of=RANK, signal=15, patience_s=2.0, grace_s=5.0),
    Lease(task="decode_3", number=2, blocks=(PortBlock(name="base", count=16, contiguous=True),)),
    Release(task="decode_3"),
    UploadFiles(
        attempt=ATTEMPT,
        directory="/run/decode_3",
        files=(FileUpload(target="res", pattern="*.txt", to="x/", label="decode_3", on_error="fail"),),
        targets=(
            StorageTarget(
                name="res",
                type="s3",
                bucket="results",
                region="eu-west-1",
                prefix="runs/7/",
                endpoint_url="http://127.0.0.1:9000",
                storage_class="STANDARD_IA",
                addressing_style="path",
            ),
            StorageTarget(name="disk", type="directory", prefix="runs/7/", path="/archive"),
        ),
    ),
    Watch(rank=RANK, offset=77),
    Unwatch(rank=RANK),
    LogMatched(rank=RANK, key=ProbeKey("readiness", 0), line="the server is up"),
    Inspect(
        number=2,
        token="t",
        wants_report=True,
        directories=(("output directory", "/o"),),
        targets=(MeshTarget(node=1, interface="eth0", address="10.0.0.8", port=40_000, is_primary=True),),
        within_s=3.0,
    ),
    SamplesStored(number=3),
    Leave(grace_s=1.0),
)
FROM_AGENT: tuple[FromAgent, ...] = (
    RankStarted(rank=RANK, pid=4123, started_at_ns=1),
    LaunchFailed(rank=RANK, errno=2, reason="no such program", port_conflict="port 15000 (http) is taken"),
    Leased(task="decode_3", number=2, ports={"http": (15000,)}, problem="none are left"),
    Uploading(attempt=ATTEMPT, text="3 of 10 files"),
    Uploaded(
        attempt=ATTEMPT,
        outcome=UploadOutcome(
            files=(UploadedFile(path="a.txt", address="s3://results/runs/7/x/a_decode_3.txt", bytes=3),),
            count=2,
            bytes=7,
            problems=(UploadProblem(text="b.txt cannot be read", is_failure=True, missing=1),),
            further_problems=1,
        ),
    ),
    EXITED,
    RankCleared(rank=RANK, ended=3, left=("76 sleep",), survivors=("77 deaf",)),
    TRIGGERED,
    ProbeWaiting(attempt=ATTEMPT, kind="readiness", detail="HTTP 503"),
    RankIdle(rank=RANK, kind="output", is_quiet=True),
    SideCommandEnded(rank=RANK, purpose="hang", output=b"Thread 1", problem="exited with 1"),
    LogSearch(
        rank=RANK, key=ProbeKey("readiness", 0), task="other", pattern=LogPattern(pattern="up", count=2)
    ),
    NodeDescribed(addresses=(("eth0", "10.0.0.7"), ("lo", "::1")), clock_ns=5),
    Inspected(
        number=2,
        clock_ns=6,
        report=REPORT,
        mesh=(
            MeshResult(
                node=1,
                interface="eth0",
                address="10.0.0.8",
                is_primary=True,
                connect_s=0.5,
                problem="refused",
            ),
        ),
    ),
    Notice(level="warning", text="watch out"),
    Hello(
        key="k" * 40,
        version=(1, 0),
        install_path="/opt/sflow",
        session="s",
        session_number=3,
        sent_at_ns=12,
        node_name="n07",
        address="10.0.0.7",
        node=7,
        agent_incarnation=11,
        controller_incarnation=2,
        pid=99,
        endpoint="tcp://[fd00::1]:20001",
        inventory=INVENTORY,
        shares_run_directory=True,
        live=(LiveRank(RANK, 4123, 1),),
        exited=(EXITED, KILLED),
        clearing=(RANK,),
        triggered=(TRIGGERED,),
        quiet=(RankIdle(rank=RANK, kind="gpus", is_quiet=True),),
    ),
    Sampled(
        number=3,
        readings=(
            Reading(
                scope="gpu", at_ms=1_700_000_000_000, values=(0, 97, 68.5, None, "P0"), is_simulated=True
            ),
            Reading(scope="disk", at_ms=1_700_000_000_001, error="no such file"),
        ),
        windows=(
            RankWindow(
                rank=RANK,
                log="decode_3/decode_3.log",
                start=Mark(at_ms=1_700_000_000_000, offset=17, line="BEGIN", patterns=("BEGIN",)),
                end=Mark(
                    at_ms=1_700_000_003_000,
                    offset=99,
                    line="END",
                    is_cut=True,
                    patterns=("re:^END",),
                    count=2,
                ),
            ),
        ),
        gpu_fields=("index", "utilization.gpu", "power.draw", "fan.speed", "pstate"),
        sent_at_ms=1_700_000_000_500,
        dropped=7,
    ),
    Terminated(),
    Goodbye(survivors=("77 deaf",)),
)
LOGS: tuple[Message, ...] = (
    LogChunk(rank=RANK, offset=1 << 40, is_spool=True, is_end=True),
    LogAck(rank=RANK, offset=5),
)

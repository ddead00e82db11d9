"""One sample of every message, with every field set: the golden files are made of these."""

from protocol.ids import AttemptId, RankId
from protocol.messages import (
    Condition,
    Goodbye,
    Gpu,
    Hello,
    HttpCheck,
    Inventory,
    LaunchFailed,
    Leave,
    LiveRank,
    LogAck,
    LogChunk,
    LogPattern,
    Message,
    NodeDescribed,
    Notice,
    Probe,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankSpec,
    RankStarted,
    Refused,
    Spawn,
    Stop,
    Unwatch,
    Watch,
    Welcome,
)

ATTEMPT = AttemptId("decode_3", 2)
RANK = RankId(ATTEMPT, 1)
EXITED = RankExited(rank=RANK, exit_code=3, runtime_s=1.5, log_bytes=100, cleared=False)
TRIGGERED = ProbeTriggered(attempt=ATTEMPT, kind="readiness", detail="port 80 is listening")
SPEC = RankSpec(
    rank=RANK,
    argv=("bash", "-c", "true"),
    env={"A": "1"},
    cwd="/tmp",
    log="decode_3/decode_3.log",
    earlier_log="decode_3/decode_3.attempt-1.log",
    grace_s=2.5,
    probes=(
        Probe(
            kind="readiness",
            tcp_port=80,
            tcp_host="127.0.0.1",
            delay_s=1.0,
            interval_s=2.0,
            timeout_s=3.0,
            threshold=4,
        ),
        Probe(
            kind="readiness",
            parts=(
                Condition(
                    http=HttpCheck(
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
                    )
                ),
                Condition(exec=("nvidia-smi", "-L")),
            ),
            needs_all=False,
            on_node="each",
        ),
        Probe(kind="failure", log=LogPattern(pattern="x.*", is_regex=True, count=2), log_task="other"),
    ),
    stream=True,
    required_paths=(("MODEL", "/models/a"),),
)
INVENTORY = Inventory(
    host="n07",
    cpus=8,
    cpus_online=16,
    memory_bytes=1 << 40,
    gpus=(Gpu(index=0, uuid="GPU-1", name="H200", memory_bytes=1 << 37, simulated=True),),
    python="3.11.7",
)
TO_AGENT: tuple[Message, ...] = (
    Welcome(session="s", incarnation=2, kill=(RANK,), heartbeat_s=1.0, orphan_grace_s=5.0),
    Refused(code="version-mismatch", reason="2.0 is not 1.0"),
    Spawn(ranks=(SPEC,)),
    Stop(attempt=ATTEMPT, grace_s=5.0),
    Watch(rank=RANK, offset=77),
    Unwatch(rank=RANK),
    Leave(grace_s=1.0),
)
FROM_AGENT: tuple[Message, ...] = (
    RankStarted(rank=RANK, pid=4123, started_at_ns=1),
    LaunchFailed(rank=RANK, errno=2, reason="no such program"),
    EXITED,
    RankCleared(rank=RANK, ended=3, survivors=("77 deaf",)),
    TRIGGERED,
    ProbeWaiting(attempt=ATTEMPT, kind="readiness", detail="HTTP 503"),
    NodeDescribed(addresses=(("eth0", "10.0.0.7"), ("lo", "::1"))),
    Notice(level="warning", text="watch out"),
    Hello(
        version=(1, 0),
        install_path="/opt/sflow",
        session="s",
        session_number=3,
        node=7,
        agent_incarnation=11,
        controller_incarnation=2,
        pid=99,
        inventory=INVENTORY,
        shares_run_directory=True,
        live=(LiveRank(RANK, 4123, 1),),
        exited=(EXITED,),
        clearing=(RANK,),
        triggered=(TRIGGERED,),
    ),
    Goodbye(survivors=("77 deaf",)),
)
LOGS: tuple[Message, ...] = (
    LogChunk(rank=RANK, offset=1 << 40, is_spool=True, is_end=True),
    LogAck(rank=RANK, offset=5),
)

"""The workflow of a round as text, and the script that all of its tasks run.

The script proves by locks, which the kernel frees with the last process that has them, that no two attempts of a task and no
two users of a GPU live at once. What is wrong it writes into `violations`.
"""

import json
from pathlib import Path

from tests.faults.chaos.schedule import Round, Work

SCRIPT = r"""
me=$SFLOW_TASK_NAME attempt=$SFLOW_ATTEMPT rank=$SFLOW_RANK here="$RECORD/$SFLOW_TASK_NAME"
wrong() { echo "$me#$attempt.$rank: $*" >> "$RECORD/violations"; }
mkdir -p "$here"
exec 8> "$here/$attempt.$rank.live"
is_held() { flock -n -E 75 "$@"; [ $? = 75 ]; }  # a fault may kill flock itself, which says nothing
! is_held 8 || wrong "attempt $attempt is started twice"
for other in "$here"/*.live; do
  case "$(basename "$other")" in "$attempt".*) continue ;; esac
  ! is_held -s "$other" true || wrong "lives at the same time as $(basename "$other" .live)"
done
gpus=${USES_GPUS:+$CUDA_VISIBLE_DEVICES} fd=20
for gpu in ${gpus//,/ }; do
  eval "exec $fd>> \"$RECORD/gpu.$SFLOW_TASK_NODE_NAME.$gpu\""
  ! is_held $fd || wrong "GPU $gpu of $SFLOW_TASK_NODE_NAME is given twice"
  fd=$((fd + 1))
done
echo "$COUNT" > "$here/lines"
echo "start $me $attempt $rank $$" >> "$RECORD/record"
[ -z "$EXPECTED" ] || [ "$EXPECTED" = "$GOT" ] || wrong "read '$GOT' instead of '$EXPECTED'"
if [ -n "$CALLS" ]; then
  timeout 5 bash -c 'exec 3<> "/dev/tcp/${CALLS%:*}/${CALLS##*:}"' || { echo "no service at $CALLS"; exit 7; }
fi
for ((i = 0; i < COUNT; i++)); do
  printf '%s#%s.%s %06d %s\n' "$me" "$attempt" "$rank" "$i" "........................................"
  [ "$PAUSE" = 0.0 ] || sleep "$PAUSE"
done
if [ -n "$SFLOW_PORT_P" ]; then
  exec python3 -S -c 'import os, socket
server = socket.create_server(("", int(os.environ["SFLOW_PORT_P"])))
while True:
    server.accept()[0].close()'
fi
[ -z "$VALUE" ] || echo "value = $VALUE"
echo "end $me $attempt $rank $$" >> "$RECORD/record"
"""


def write(chosen: Round, record: Path, file: Path, backend: str) -> None:
    """Write the workflow of a round, whose tasks record what they do in `record`.

    `backend` are the fields of its backend beside the numbers of nodes and GPUs, in YAML's flow style.
    """
    record.mkdir(parents=True, exist_ok=True)
    (record / "task.sh").write_text(SCRIPT)
    values = {work.name: work.value for work in chosen.works}
    tasks = "".join(_task(work, record, values) for work in chosen.works)
    size = f"nodes: {chosen.nodes}, spares: {chosen.spares}, gpus_per_node: {chosen.gpus_per_node}"
    pool = f"backends: {{pool: {{{backend}, {size}}}}}\n"
    file.write_text(f'version: "0.1"\n{pool}workflow:\n  name: chaos\n  tasks:\n{tasks}')


def _task(work: Work, record: Path, values: dict[str, int | None]) -> str:
    variables = {
        "RECORD": str(record),
        "COUNT": str(work.lines),
        "PAUSE": str(work.pause_s),
        "VALUE": "" if work.value is None else str(work.value),
        "EXPECTED": str(values[work.reads]) if work.reads else "",
        "GOT": f"${{{{ task.{work.reads}.outputs.value }}}}" if work.reads else "",
        "CALLS": f"${{{{ task.{work.calls}.endpoint.p }}}}" if work.calls else "",
        "USES_GPUS": "1" if work.gpus else "",
    }
    nodes: dict[str, object] = {"indices": [0]} if work.is_fixed else {"count": work.nodes}
    resources: dict[str, object] = {"nodes": nodes}
    if work.gpus:
        resources["gpus"] = {"count": work.gpus * work.nodes}
    fields: dict[str, object] = {
        "name": work.name,
        "depends_on": list(work.after),
        "resources": resources,
        "variables": variables,
        "script": ['exec bash "$RECORD/task.sh"'],
    }
    if work.replicas > 1:
        fields["replicas"] = {"count": work.replicas}
    if work.kind == "service":
        fields["ports"] = {"p": 1}
        fields["probes"] = {"readiness": {"tcp_port": {"port": "${{ port.p }}"}, "interval": 1}}
        fields["restart"] = {"policy": "on_failure", "max": 50, "backoff": 0.1}
    else:
        fields["retries"] = {"count": 50, "interval": 0}
    if work.on_node_lost:
        fields["on_node_lost"] = work.on_node_lost
    if work.value is not None:
        fields["outputs"] = [{"pattern": "value = {value:d}"}]
    return f"    - {json.dumps(fields)}\n"

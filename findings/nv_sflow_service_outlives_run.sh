#!/bin/sh
# nv-sflow 0.3.1: without a terminal, a service of the local backend keeps running after its run has completed.
#
# The script of a task is then the left side of a pipe below the shell that gets SIGTERM, so only that shell ends. A batch job or CI step
# leaves each service behind, with its port and its GPUs, although the run reports success.
set -e
folder=$(mktemp -d)
trap 'test -s "$folder/pid" && kill "$(cat "$folder/pid")" 2>/dev/null; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check nv-sflow==0.3.1
cd "$folder"
cat > service.yaml <<YAML
version: "0.1"
workflow:
  name: service
  tasks:
    - name: server
      script: ['echo READY; echo \$BASHPID > $folder/pid; exec sleep 300']
      probes: {readiness: {log_watch: {regex_pattern: READY}, interval: 1}}
    - {name: client, depends_on: [server], script: [echo done]}
YAML
venv/bin/sflow run -f service.yaml > output 2>&1 < /dev/null && status=0 || status=$?
sleep 5
if kill -0 "$(cat pid)" 2>/dev/null; then left="still runs"; else left="has ended"; fi
echo "nv-sflow 0.3.1: exit status $status, 5 s later the service $left"
test "$status $left" = "0 still runs"

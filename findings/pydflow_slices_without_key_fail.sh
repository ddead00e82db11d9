#!/bin/sh
# pydflow 1.8.134, debug mode: of many slices that succeed some are recorded as failed, unless the step has a key.
#
# Each slice adds itself to a file `children` of its workflow, which it opens for writing, so that the file is empty for a moment. Slices
# of a step without `key` also read that file, without the lock, when they begin: a slice that finds it empty fails with a
# JSONDecodeError before its script has run. 300 slices of `true`, 4 at once: about one in ten fails, and so does the workflow. With
# `key="echo-{{item}}"` the same workflow succeeds.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pydflow==1.8.134
cd "$folder"
cat > slices.py <<'PYTHON'
import sys

from dflow import ShellOPTemplate, Step, Workflow, argo_range, config

config["mode"] = "debug"
config["debug_pool_workers"] = 4
key = {"key": "echo-{{item}}"} if sys.argv[1:] == ["key"] else {}
step = Step("echo", ShellOPTemplate("echo", script="true"), with_param=argo_range(300), **key)
workflow = Workflow("slices")
workflow.add(step)
workflow.submit()
print("seen:", workflow.query_status())
PYTHON
for given in none key; do
    mkdir "$given"
    (cd "$given" && ../venv/bin/python ../slices.py "$given") > "$given.output" 2>&1 < /dev/null || { cat "$given.output"; exit 1; }
    ended=$(sed -n 's/^seen: //p' "$given.output")
    failed=$(grep -c '^json.decoder.JSONDecodeError' "$given.output" || true)
    echo "pydflow 1.8.134, 300 slices of true, key: $given: $ended, slices that failed with JSONDecodeError: $failed"
    seen="$seen$given $ended $(test "$failed" -gt 0 && echo some || echo none), "
done
test "$seen" = "none Failed some, key Succeeded none, "

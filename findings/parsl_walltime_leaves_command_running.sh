#!/bin/sh
# Parsl 2026.10.26: a bash app past its walltime fails with AppTimeout, but its command keeps running; a retry runs a second one beside it.
#
# The command notes its start, works for six seconds and notes its end. With walltime=2 and retries=1 the app fails after two attempts,
# and both commands still reach their end, the worker being free for other apps meanwhile. (Open upstream as issue 2824, from reading.)
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check parsl==2026.10.26
cd "$folder"
cat > app.py <<'PYTHON'
import time
from pathlib import Path

import parsl
from parsl import bash_app
from parsl.app.errors import AppTimeout
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@bash_app
def work(walltime=None):
    return "echo start >> notes; sleep 6; echo end >> notes"


parsl.load(Config(executors=[ThreadPoolExecutor(max_threads=1)], retries=1, usage_tracking=0))
try:
    work(walltime=2).result()
except AppTimeout as error:
    print(error)
print("notes when the app has failed:", *Path("notes").read_text().split())
time.sleep(8)
print("notes eight seconds later:", *Path("notes").read_text().split())
PYTHON
venv/bin/python app.py > output 2> problems < /dev/null || { cat output problems; exit 1; }
echo "parsl 2026.10.26, a bash app with walltime=2 and retries=1:"
cat output
grep -qx "App work exceeded walltime: 2 seconds" output
grep -qx "notes when the app has failed: start start" output
grep -qx "notes eight seconds later: start start end end" output

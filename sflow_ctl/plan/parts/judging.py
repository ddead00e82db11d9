"""Which findings are a matter of judgement.

All other findings are errors without which no run could do what its file says.
"""

from sflow_ctl.plan.words import PolicyWord

JUDGED: dict[str, tuple[PolicyWord, str]] = {
    "address-unknown": ("warn", "other tasks get an address that only another machine knows"),
    "artifact-missing": ("warn", "a path of an artifact does not exist where a plan looks for it"),
    "bare-braces": ("warn", "a text has braces as an expression has, without the dollar sign"),
    "defined-again": ("warn", "a later file replaces an entry of an earlier one"),
    "file-as-pattern": ("warn", "a pattern for values looks like the name of a file"),
    "fixed-port": ("warn", "copies of a task that may run on one node wait for the same port"),
    "gpus-in-use": ("warn", "another process uses a GPU when the run begins"),
    "gpus-too-small": ("error", "GPUs have less memory than `count: auto` was computed with"),
    "gpus-unchecked": ("warn", "GPUs of another machine are given out by number"),
    "hyphen-in-name": ("error", "an expression subtracts where it spells a declared name"),
    "idle-gpus": ("warn", "a task gets GPUs on nodes where no process of it starts"),
    "ignored-backend": ("warn", "tasks are left out with their backend"),
    "ignored-key": ("warn", "a key has no effect where it is"),
    "literal-args": ("warn", "`args` have what only a shell would replace or act on"),
    "literal-dollar": ("warn", "a variable of an operator reaches its program as it is written"),
    "log-truncated": ("warn", "a script empties the log that it writes itself"),
    "many-tasks-at-once": ("warn", "more tasks may run at once than this machine has CPUs for"),
    "merged-value": ("warn", "a later file changes a value of an earlier one"),
    "metric-without-value": ("warn", "the pattern of an output has no value of that name"),
    "missing-task": ("warn", "a task that may be missing is, and its mentions were taken out"),
    "monitor-fields": ("warn", "a monitor has fields that nothing measures"),
    "monitors-here": ("warn", "a monitor measures this machine, and not the one that works"),
    "name-case": ("warn", "names of tasks differ only in case: on some file systems they are one directory"),
    "namespace-name": ("warn", "a variable has the name of a namespace of expressions"),
    "never-ready": ("warn", "people are to be told of something that does not happen"),
    "no-boto3": ("warn", "uploads need a package that is not here"),
    "no-credentials": ("warn", "uploads find no credentials here"),
    "no-effect": ("warn", "a field of a backend has no effect where the run is"),
    "only-services": ("warn", "all tasks are services, so that the run ends when they are ready"),
    "other-node-count": ("warn", "a job has another number of nodes than the file asks for"),
    "outside-run-directory": ("warn", "the content of an artifact replaces a file elsewhere"),
    "regex-as-text": ("warn", "a literal pattern looks like a regular expression"),
    "reserved-name": ("warn", "a variable does not reach tasks under its name"),
    "runs-here": ("warn", "a task of a docker host runs on this machine"),
    "script-colon": ("warn", "a line of a script was read as a mapping and put together again"),
    "secret-in-direct-log": ("warn", "a secret can get into a log that is not masked"),
    "secret-on-command-line": ("warn", "a secret is on a command line, which all users of the node see"),
    "secret-too-short": ("warn", "a secret is too short to be masked"),
    "shared-key": ("warn", "uploads of several tasks replace each other"),
    "shell-variable": ("warn", "a script does not get a variable's value from the shell"),
    "simulated-gpus": ("warn", "GPUs are simulated without `--simulate-gpus`"),
    "sweep-truncated": ("warn", "`max_runs` leaves out cells of a sweep"),
    "unknown-args": ("warn", "a Python program of a script does not take an option that it is given"),
    "unknown-secret": ("warn", "a secret has no value that could be masked"),
    "unused-key": ("warn", "an option for the path of a checkpoint is used by no script"),
    "upload-names": ("warn", "uploads of replicas get names of their own"),
    "value-twice": ("warn", "a value of a result is found in two ways"),
}
"""What each means without a rule, and what it is about."""
LENIENT = frozenset(code for code, (usual, _) in JUDGED.items() if usual == "error")
"""Errors that a person may set aside."""

"""The `ssh` operator: a script on another machine that ends when its task is ended.

Everything goes over ssh's standard input, nothing over a command line: first the text of the remote
supervisor, then the script with its environment, then a beat every few seconds. The supervisor ends the
script's processes, with a grace time, when it receives the order to stop, when its input ends, or when no
beat has arrived for too long: hence also when the connection is cut, or the local process is killed.
"""

import shlex
from collections.abc import Mapping, Sequence

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_int, at

REMOTE_GRACE_S = 4
"""Between SIGTERM and SIGKILL on the other machine: less than an agent gives a task, so that the agent sees
the end of it.
"""
BEAT_S = 5
BEATS_WITHIN_S = 30
MARKS_FROM = 1 << 58
"""Soft limits of file locks from here on are marks of such tasks, below those of runs (`protocol.machine.marks`)."""
SCRIPT, NAMES, TARGET = "SFLOW_SSH_SCRIPT", "SFLOW_SSH_NAMES", "SFLOW_SSH_TARGET"
_IDENTIFIER = lazy_pattern(r"[A-Za-z_][A-Za-z0-9_]*$")

_SUPERVISOR = f"""{{
IFS= read -r -d '' marker
IFS= read -r -d '' script
exec 3<&0 </dev/null
set -m
sum=$(printf %s "$marker" | cksum)
mark=$(( {MARKS_FROM} + (${{sum%% *}} << 22) + ($$ & 4194303) ))
SFLOW_SSH_MARKER=$marker SFLOW_SSH_MARK=$mark bash -lc '
    IFS= read -r -d "" SFLOW_SSH_SCRIPT <&4
    exec 4<&-
    ulimit -S -x "$SFLOW_SSH_MARK" 2>/dev/null
    eval "unset SFLOW_SSH_SCRIPT SFLOW_SSH_MARK; $SFLOW_SSH_SCRIPT"
' 2>&1 3<&- 4< <(printf "%s\\0" "$script") &
child=$!
exec 2>/dev/null
living() {{
    kill -0 -- -$child && echo -$child
    {{ grep -lzFx -- "SFLOW_SSH_MARKER=$marker" /proc/[0-9]*/environ
      grep -l -- "^Max file locks  *$mark " /proc/[0-9]*/limits
    }} | while IFS=/ read -r _ _ pid _; do echo $pid; done
}}
end_all() {{
    local since=$SECONDS told=" " one left
    while left=$(living); [ "$left" ]; do
        for one in $left; do
            if [ $((SECONDS - since)) -gt {REMOTE_GRACE_S} ]; then kill -KILL -- $one
            elif [[ $told != *" $one "* ]]; then told+="$one "; kill -TERM -- $one; kill -CONT -- $one
            fi
        done
        [ $((SECONDS - since)) -gt {REMOTE_GRACE_S + 5} ] && break
        sleep 0.1
    done
}}
is_stopping=
trap 'is_stopping=1' TERM HUP
( trap "" TERM HUP
  while read -r -t {BEATS_WITHIN_S} order && [ "$order" = beat ]; do :; done
  kill -HUP $$ || end_all ) <&3 >/dev/null &
watcher=$!
exec 3<&-
wait $child; status=$?
end_all
[ "$is_stopping" ] && {{ wait $child; status=$?; }}
kill -KILL $watcher
exit $status
}}
"""
"""Runs on the other machine as `bash -s`. Both streams of the script are one, as ssh does not keep the order
of two. The script is a process group; processes that leave it are known by their marker, and without it by a
resource limit that they inherit. The watcher ends them when the supervisor itself was killed.
"""

_CONTROL = f"""script=$SFLOW_SSH_SCRIPT names=$SFLOW_SSH_NAMES target=$SFLOW_SSH_TARGET
unset SFLOW_SSH_SCRIPT SFLOW_SSH_NAMES SFLOW_SSH_TARGET
trap '' PIPE TERM
marker=$SFLOW_RUN_MARKER/$SFLOW_RANK_MARKER/$$
exports=
for name in $names ${{!SFLOW_@}}; do
    case $name in (SFLOW_*_MARKER|SFLOW_ATTEMPT_ID) continue ;; esac
    [ "${{!name+x}}" ] && printf -v line 'export %s=%q; ' "$name" "${{!name}}" && exports+=$line
done
exec {{log}}>&1 {{answer}}<> <(:)
exec {{to}}> >(trap '' TERM; ssh "$@" >&$log; echo $? >&$answer)
ssh=$!
trap 'echo stop >&$to' TERM
{{ printf '%s' "$SUPERVISOR"; printf '%s\\0' "$marker" "$exports$script"; }} >&$to
until read -r -t {BEAT_S} -u $answer status; do
    kill -0 $ssh || break
    echo beat >&$to
done 2>/dev/null
if [ "$status" = 255 ]; then
    echo "sflow-ctl: ssh ended with 255: no connection to $target, or it was lost (or the script itself ended so)" >&2
fi
exit ${{status:-255}}"""
_LOCAL = f"SUPERVISOR={shlex.quote(_SUPERVISOR)}\n{_CONTROL}"


def ssh_command(
    task: str, operator: schema.Operator, script: str, env: Mapping[str, str], more: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the command line on an agent, and the variables that it needs in its environment.

    Variables of `env`, those called as in `more` and all `SFLOW_...` ones are set on the other machine, with
    the values they have on the agent's node. Raises: UnplannableError, NumberError.
    """
    assert operator.host is not None
    for key in env:
        if not _IDENTIFIER.match(key):
            what = f'task "{task}": "{key}" is not a name that a remote shell can export'
            raise UnplannableError("wrong-variable-name", what, "rename the variable", ("operator",))
    options: list[str] = []
    if operator.port is not None:
        options += ["-p", str(at(("operator", "port"), as_int, operator.port, 1))]
    if operator.identity_file is not None:
        options += ["-i", operator.identity_file]
    # The first value of an option counts: those of the file come first. ssh must not ask questions: there is
    # no terminal.
    options += [*operator.extra_args, "-T", "-o", "BatchMode=yes"]
    options += ["-o", f"ServerAliveInterval={BEAT_S}", "-o", "ServerAliveCountMax=4"]
    target = f"{operator.user}@{operator.host}" if operator.user else operator.host
    own = {SCRIPT: f"{script}\n", NAMES: " ".join((*env, *more)), TARGET: target}
    return ("bash", "-c", _LOCAL, "sflow-ssh", *options, "--", target, "bash -s"), own

"""The text with which bash sets up a task's environment before its command, and how its failure is read from a log.

Planner and agent share it: the planner has it run inside job steps and on other machines, the agent everywhere else. Imported
only for tasks that have an `environment`.
"""

import shlex
from typing import NamedTuple

from protocol.text.lazy_pattern import lazy_pattern

PREFIX = "SFLOW_ENVIRONMENT_"
"""Begins the names of the variables that bring the text and its values to bash: a command line shows them to every user."""
SCRIPT = f"{PREFIX}SCRIPT"
VALUE = f"{PREFIX}VALUE_"
"""Begins the name of the variable that has a value of `env`, before the environment's own name."""
STATUS = 121
"""The exit status of a process whose environment could not be set up. No program of ours or of Slurm's has it."""
CACHE_FD, OUTPUT_FD = 3, 4
"""Descriptors of a process that shares its set-up with others: files of its agent that are only in memory."""
READER = f'eval "${{{SCRIPT}?its environment was not passed to it}}"'
"""What bash is started with: the text is on no command line."""
SHOWN_LINES = 4
"""Of the output of a line that failed, in a sentence."""
CONSTANT = (
    "SFLOW_WORKSPACE_DIR", "SFLOW_OUTPUT_DIR", "SFLOW_WORKFLOW_OUTPUT_DIR", "SFLOW_WORKFLOW_RESULT_FILE",
    "SFLOW_WORKFLOW_NAME", "SFLOW_RUN_ID",
)  # fmt: skip
"""Variables of ours that all tasks of a run have alike; the others are hidden from what tasks share."""
OWN = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""Variables of others that each process has for itself."""

_START = r"""
set +euo pipefail
unset SFLOW_ENVIRONMENT_SCRIPT
__sflow_command=("$@")
set --
__sflow_shown() { printf '[environment %s] %s\n' "$__sflow_name" "$1"; }
__sflow_step() { __sflow_line=$1; __sflow_shown "$1"; }
__sflow_fail() {
    trap - EXIT
    set +e
    __sflow_shown "failed with status $1: $__sflow_line"
    exit 121
}
__sflow_check() {
    set -- "$?"
    set +aeu; set +o pipefail
    trap '__sflow_fail $?' EXIT
    [ "$1" -eq 0 ] || __sflow_fail "$1"
}
__sflow_modules() {
    for __sflow_file in "$MODULESHOME/init/bash" "$LMOD_PKG/init/bash" /etc/profile.d/modules.sh \
        /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh /usr/share/modules/init/bash /usr/share/Modules/init/bash \
        /usr/share/lmod/lmod/init/bash
    do
        type -t module >/dev/null && return
        [ -r "$__sflow_file" ] && . "$__sflow_file"
    done
    type -t module >/dev/null && return
    echo "this node has no \`module\` command: it is not in the environment of the run, and not where Environment Modules"
    echo "and Lmod are usually installed; load it in the setting \`preamble\`, or set MODULESHOME"
    return 127
}
__sflow_find_conda() {
    [ "$(type -t conda)" = function ] && return
    for __sflow_file in "$CONDA_EXE" "$(type -P conda)"; do
        [ -n "$__sflow_file" ] && __sflow_root=${__sflow_file%/*} && set -- "$@" "${__sflow_root%/*}"
    done
    for __sflow_root in "$@" ~/miniforge3 ~/mambaforge ~/miniconda3 ~/anaconda3 /opt/conda /opt/miniforge3 /opt/miniconda3
    do
        [ -r "$__sflow_root/etc/profile.d/conda.sh" ] && . "$__sflow_root/etc/profile.d/conda.sh" && return
    done
    for __sflow_file in "$MAMBA_EXE" "$(type -P micromamba)" "$(type -P mamba)"; do
        [ -n "$__sflow_file" ] || continue
        eval "$("$__sflow_file" shell hook --shell bash)" && __sflow_conda=${__sflow_file##*/} && return
    done
    echo "this node has no conda: it is not in CONDA_EXE, MAMBA_EXE or PATH, and not in the usual directories below"
    echo "$HOME and /opt; load the module that has it, or set one of these variables"
    return 127
}
__sflow_activate() {
    __sflow_conda=conda
    __sflow_find_conda || return
    "$__sflow_conda" activate "$1"
}
__sflow_venv() {
    [ -r "$1/bin/activate" ] && return
    echo "there is no virtual environment: $1/bin/activate does not exist on this node, or cannot be read"
    return 1
}
__sflow_readable() {
    [ -r "$1" ] && [ ! -d "$1" ] && return
    echo "$1 does not exist on this node, or cannot be read"
    return 1
}
trap '__sflow_fail $?' EXIT
"""
_SHARED = r"""
__sflow_now() {
    if [ "$EPOCHREALTIME" ]; then printf -v "$1" %s "${EPOCHREALTIME/[.,]/}"; else printf -v "$1" '%(%s)T000000' -1; fi
}
__sflow_output() {
    IFS= read -r -d '' __sflow_printed </proc/self/fd/4
    [ -z "$__sflow_printed" ] || printf %s "$__sflow_printed"
}
__sflow_load() {
    IFS= read -r -d '' __sflow_text </proc/self/fd/3
    __sflow_end=${__sflow_text##*$'\n'}
    case $__sflow_end in
    '#ready') eval "$__sflow_text"; return 0 ;;
    '#failed '*)
        __sflow_end=${__sflow_end#* }
        [ "${__sflow_end%% *}" -gt "$__sflow_began" ] || return 1
        __sflow_step "${__sflow_text%$'\n'*}"
        __sflow_output
        __sflow_fail "${__sflow_end#* }" ;;
    esac
    return 1
}
__sflow_now __sflow_began
if ! type -P flock >/dev/null; then
    eval "$__sflow_shared"
elif ! __sflow_load; then
    exec {__sflow_lock}</proc/self/fd/3
    flock "$__sflow_lock"
    if ! __sflow_load; then
        __sflow_line='set-up that tasks of this node share'
        (
        exec {__sflow_lock}>&- 5>&1 6>&2
        : >/proc/self/fd/4
        __sflow_step() {
            __sflow_output >&5
            __sflow_line=$1
            __sflow_shown "$1" >&5
            exec >/proc/self/fd/4
            exec >>/proc/self/fd/4 2>&1
        }
        __sflow_fail() {
            trap - EXIT
            set +e
            exec >&5 2>&6
            __sflow_now __sflow_end
            printf '%s\n#failed %s %s' "$__sflow_line" "$__sflow_end" "$1" >/proc/self/fd/3
            __sflow_output
            __sflow_shown "failed with status $1: $__sflow_line"
            exit 121
        }
        trap '__sflow_fail $?' EXIT
        for __sflow_one in $__sflow_hidden "${!SFLOW_@}" "${!PET_@}"; do
            case " $__sflow_kept " in *" $__sflow_one "*) continue ;; esac
            case $__sflow_one in *_MARKER|SFLOW_ATTEMPT_ID) continue ;; esac
            unset "$__sflow_one" 2>/dev/null
        done
        declare -A __sflow_before __sflow_functions
        for __sflow_one in $(compgen -e); do __sflow_before[$__sflow_one]=${!__sflow_one}; done
        for __sflow_one in $(compgen -A function); do __sflow_functions[$__sflow_one]=$(declare -f "$__sflow_one"); done
        __sflow_mask=$(umask)
        eval "$__sflow_shared"
        trap - EXIT
        exec >&5 2>&6
        __sflow_output
        __sflow_text=
        for __sflow_one in $(compgen -e); do
            case " _ SHLVL PWD OLDPWD $__sflow_hidden " in *" $__sflow_one "*) continue ;; esac
            case $__sflow_one in SFLOW_*) continue ;; esac
            if [ -z "${__sflow_before[$__sflow_one]+x}" ] ||
                [ "${__sflow_before[$__sflow_one]}" != "${!__sflow_one}" ]
            then
                printf -v __sflow_line 'export %s=%q\n' "$__sflow_one" "${!__sflow_one}"
                __sflow_text+=$__sflow_line
            fi
            unset "__sflow_before[$__sflow_one]"
        done
        for __sflow_one in "${!__sflow_before[@]}"; do
            case $__sflow_one in _|SHLVL|PWD|OLDPWD|SFLOW_*) continue ;; esac
            __sflow_text+="unset $__sflow_one"$'\n'
        done
        for __sflow_one in $(declare -Fx | while read -r _ _ __sflow_line; do echo "$__sflow_line"; done); do
            __sflow_line=$(declare -f "$__sflow_one")
            [ "${__sflow_functions[$__sflow_one]-}" = "$__sflow_line" ] && continue
            __sflow_text+=$__sflow_line$'\n'"export -f $__sflow_one"$'\n'
        done
        [ "$__sflow_mask" = "$(umask)" ] || __sflow_text+="umask $(umask)"$'\n'
        printf '%s#ready' "${__sflow_text:-$'\n'}" >/proc/self/fd/3
        )
        __sflow_one=$?
        case $__sflow_one in
        0) __sflow_load || __sflow_fail 1 ;;
        121) trap - EXIT; exit 121 ;;
        *) __sflow_fail $__sflow_one ;;
        esac
    fi
    exec {__sflow_lock}>&-
fi
exec 3>&- 4>&-
"""
_STEP = "__sflow_step "
_END = r"""
trap - EXIT
exec "${__sflow_command[@]}"
"""


class Steps(NamedTuple):
    """The parts of a set-up as text for bash, each step with its name and its check."""

    name: str
    shared: str
    """What tasks may share: modules, files, activations."""
    own: str
    """What each process does for itself: variables, and lines of an attempt."""


def bash_text(steps: Steps, hidden: tuple[str, ...], *, is_shared: bool) -> str:
    """Return what bash does before it becomes the command in its arguments.

    With `is_shared` it takes what another process has set up from the descriptors `CACHE_FD` and `OUTPUT_FD`, or sets it up for
    the others; `hidden` are further variables that are not a part of that.
    """
    name = f"__sflow_name={shlex.quote(steps.name)}"
    if not (is_shared and steps.shared):
        return f"{name}{_START}{steps.shared}{steps.own}{_END}"
    kept, unseen = " ".join(CONSTANT), " ".join((*OWN, *hidden))
    known = f"__sflow_kept='{kept}' __sflow_hidden='{unseen}' __sflow_shared={shlex.quote(steps.shared)}"
    return f"{name}{_START}{known}{_SHARED}{steps.own}{_END}"


def shown_steps(*texts: str) -> list[str]:
    """Return the steps of a set-up as a log names them."""
    lines = (line for text in texts for line in text.splitlines() if line.startswith(_STEP))
    return [shlex.split(line.removeprefix(_STEP))[0] for line in lines]


class BootstrapFailure(NamedTuple):
    """The line of an environment that failed, as a log has it."""

    line: str
    status: int
    output: str
    """The last lines that it printed, joined; may be empty."""
    number: int
    """The position of the log's line that reports it, from 0."""


_FAILED = lazy_pattern(r"\[environment (.+?)\] failed with status (\d+): (.*)$")


def failure_in(text: str) -> BootstrapFailure | None:
    """Return the failure that a log ends with; None if it has none."""
    lines = text.splitlines()
    for number in range(len(lines) - 1, -1, -1):
        found = _FAILED.search(lines[number])
        if found is None:
            continue
        begin = f"[environment {found[1]}] "
        first = next((at for at in range(number - 1, -1, -1) if lines[at].startswith(begin)), number - 1)
        printed = [line.strip() for line in lines[first + 1 : number] if line.strip()]
        return BootstrapFailure(found[3], int(found[2]), "; ".join(printed[-SHOWN_LINES:]), number)
    return None

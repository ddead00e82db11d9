"""What a Slurm backend asks of its job in keys of its own: checks of their values, and the options they become.

Imported for files that have some. The rules check values as written, `batch/slurm_request.py` again with expressions evaluated.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import has_expression

SLURM_KEYS = ("qos", "constraint", "mem", "cpus_per_task", "reservation", "dependency", "mail")
"""Fields of a Slurm backend that are options of `salloc` and `sbatch`, in the order of these."""
MAIL_TYPES = (
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT", "TIME_LIMIT_90",
    "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS",
)  # fmt: skip
"""Source: sbatch(1), --mail-type."""
USUAL_MAIL = ("END", "FAIL")
_WORD = lazy_pattern(r"[^\s,]+")
_LINE = lazy_pattern(r"[^\s\x00-\x1f]+")
_MEMORY = lazy_pattern(r"\d+[KMGTkmgt]?[Bb]?")
_COUNT = lazy_pattern(r"[1-9]\d*")
_DEPENDENCY = lazy_pattern(
    r"(?:(?:after|afterany|afterok|afternotok|aftercorr|afterburstbuffer)(?::\d+(?:_(?:\d+|\*))?(?:\+\d+)?)+|singleton)"
)
_CHECKS = {
    "qos": (_WORD, "is not the name of a quality of service", "e.g. qos: high"),
    "constraint": (_LINE, "is not a list of node features", 'without blanks, e.g. constraint: "a100&ib"'),
    "mem": (
        _MEMORY,
        "is not an amount of memory",
        "memory of each node with a unit, e.g. mem: 64G; 0 is all of it",
    ),
    "cpus_per_task": (_COUNT, "is not a number of CPUs", "a whole number from 1"),
    "reservation": (_LINE, "is not the name of a reservation", "e.g. reservation: maintenance"),
}


def problem_of(field: str, value: Any) -> tuple[str, str] | None:
    """Return what is wrong with a value, as the end of a sentence, and what to do; None if it is fine."""
    if field == "mail":
        return _mail_problem(value)
    text = str(value)
    if field == "dependency":
        separators = {mark for mark in ",?" if mark in text}
        conditions = text.replace("?", ",").split(",")
        if len(separators) < 2 and all(map(_DEPENDENCY.fullmatch, conditions)):
            return None
        hint = (
            "e.g. dependency: afterok:1234 or singleton; several with commas (all of them) or ? (any of them)"
        )
        return f'"{text}" is not a condition of Slurm on other jobs', hint
    pattern, what, hint = _CHECKS[field]
    is_fine = not isinstance(value, bool) and pattern.fullmatch(text) is not None
    return None if is_fine else (f'"{text}" {what}', hint)


def _mail_problem(value: Any) -> tuple[str, str] | None:
    user, types = _mail(value)
    if not _WORD.fullmatch(user) or user.startswith("-"):
        return f'"{user}" is not an address for mail', "e.g. mail: {user: me@example.org, type: [end, fail]}"
    wrong = next((one for one in types if one not in MAIL_TYPES), None)
    if wrong is not None:
        return f'"{wrong.lower()}" is not a kind of mail', f"one of {', '.join(MAIL_TYPES).lower()}"
    return None


def _mail(value: Any) -> tuple[str, tuple[str, ...]]:
    """Return the address and the kinds of mail."""
    if not isinstance(value, schema.Mail):
        return str(value), USUAL_MAIL
    return value.user, tuple(one.upper() for one in value.type) or USUAL_MAIL


def slurm_key_problems(backend: schema.Backend) -> Iterator[tuple[str, str, str]]:
    """Yield (field, what, hint) of values that are wrong as they are written."""
    for field in SLURM_KEYS:
        value = getattr(backend, field)
        texts = [value.user, *value.type] if isinstance(value, schema.Mail) else [value]
        if value is None or any(map(has_expression, texts)):
            continue
        found = problem_of(field, value)
        if found is not None:
            yield field, *found


def key_options(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options that these values of fields become, each one word."""
    options = []
    for field in SLURM_KEYS:
        value = values.get(field)
        if value is None:
            continue
        if field == "mail":
            user, types = _mail(value)
            options += [f"--mail-user={user}", f"--mail-type={','.join(types)}"]
        else:
            options.append(f"--{field.replace('_', '-')}={value}")
    return tuple(options)

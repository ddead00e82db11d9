"""The plans of a run's revisions in its directory: those that commands leave there to be applied, and those that were in force.

A plan to be applied has two files, `plans/N-DIGEST.json` and its head, which says what a resume needs of it. The request names
the two by the digest of the head, which has that of the plan: what is applied is what was shown. `plans/N.json` is the plan that
was in force as revision N, `plans/start.I.json` the one that controller I began with.
"""

import hashlib
import hmac
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from protocol.digest import sha256
from protocol.text.masking import mark_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular, write_durably
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan
from sflow_ctl.runtime.record.plan_growth import read_plan_file
from sflow_ctl.runtime.record.sources import SourceFile

MAX_BYTES = 256 * 1024 * 1024
"""Of a plan: a hundred thousand tasks that differ have half of that."""
_DIGITS = 16


class UnusablePlanError(Exception):
    """A plan cannot be applied; the text says why, as a sentence."""


class PlanHead(Struct, frozen=True, kw_only=True):
    """What belongs to a plan that is to be applied."""

    plan: str
    """The SHA-256 of its file."""
    workflow: str
    """The composed workflow, without values of secrets."""
    options: dict[str, Any]
    """As in `run.json`."""
    sources: tuple[SourceFile, ...] = ()
    labels: dict[str, str] = {}
    argv: tuple[str, ...] = ()
    """The command."""
    secrets: dict[str, tuple[str, ...]] = {}
    """Of each secret whose values the plan was made with, codes that only who knows key and value can make."""


def leave_plan(directory: Path, base: int, plan: Plan, head: PlanHead) -> str:
    """Leave a plan in a run directory to be applied; return the name of its files. Raises: OSError; UnusablePlanError."""
    mask = SECRETS.mask.data if SECRETS.mask else None
    content = b"".join(encode_plan(plan, mask))
    if mask is not None and not _comes_back(content, plan):
        raise UnusablePlanError(
            "a text of the plan has the value of a secret in another form than its own: it cannot be kept without it"
        )
    head = msgspec.structs.replace(head, plan=sha256(content).hex())
    encoded = msgspec.json.encode(head, enc_hook=str)
    source = f"{base + 1}-{sha256(encoded).hex()[:_DIGITS]}"
    (directory / layout.PLANS).mkdir(mode=0o700, exist_ok=True)
    write_durably(directory / layout.applied_plan(source), content)
    write_durably(directory / layout.applied_head(source), encoded)
    return source


def withdraw_plan(directory: Path, source: str) -> None:
    """Remove a plan that was not applied. Raises: OSError."""
    for name in (layout.applied_plan(source), layout.applied_head(source)):
        (directory / name).unlink(missing_ok=True)


def read_head(directory: Path, source: str) -> PlanHead:
    """Return the head of a plan. Raises: UnusablePlanError."""
    if Path(source).name != source:
        raise UnusablePlanError("the name of the plan is not the name of a file")
    try:
        content = read_regular(directory / layout.applied_head(source))
        head = msgspec.json.decode(content, type=PlanHead)
    except (OSError, *UNREADABLE) as error:
        raise UnusablePlanError(f"{layout.applied_head(source)} cannot be read: {error}") from error
    if not source.endswith(f"-{sha256(content).hex()[:_DIGITS]}"):
        raise UnusablePlanError(f"{layout.applied_head(source)} has changed since it was asked for")
    return head


@lru_cache(maxsize=1)
def read_plan(directory: Path, source: str, key: str = "") -> Plan:
    """Return a plan that was left to be applied, with the values of this process's secrets. Of one name it is always the same.

    `key` is the operators' one. Raises: UnusablePlanError.
    """
    head = read_head(directory, source)
    path = directory / layout.applied_plan(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnusablePlanError(f"{path} is longer than {MAX_BYTES} bytes")
        content = read_regular(path)
    except OSError as error:
        raise UnusablePlanError(f"{path} cannot be read: {error.strerror}") from error
    if sha256(content).hex() != head.plan:
        raise UnusablePlanError(f"{path} has changed since it was asked for")
    if key:
        _check_secrets(head, key)
    try:
        return decode_plan(with_secrets(content))
    except UNREADABLE as error:
        raise UnusablePlanError(f"{path} was not written by this version of sflow-ctl: {error}") from error


def read_revision(path: Path) -> Plan | None:
    """Return a plan that was in force, with the values of this process's secrets; None if there is no such file.

    Raises: OSError; one of `UNREADABLE`.
    """
    try:
        return decode_plan(with_secrets(read_regular(path)))
    except FileNotFoundError:
        return None


def plan_in_force(directory: Path) -> Plan:
    """Return the newest plan of a run, with the values of this process's secrets. Raises: OSError; one of `UNREADABLE`."""
    return read_plan_file(directory, with_secrets).plan()


def codes_of_secrets(key: str) -> dict[str, tuple[str, ...]]:
    """Return, for each secret with values here, codes by which a controller knows whether it has the same ones."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in SECRETS.values():
        found[name] = (*found.get(name, ()), code_of(key, value))
    return found


def _check_secrets(head: PlanHead, key: str) -> None:
    """Raises: UnusablePlanError if the plan was made with other values than the run has."""
    known = codes_of_secrets(key)
    others = sorted(
        name for name, codes in head.secrets.items() if name in known and not {*codes} <= {*known[name]}
    )
    if others:
        raise UnusablePlanError(
            f"the value of secret {', '.join(others)} is another one than the run began with: a live run keeps it"
        )


def code_of(key: str, value: str) -> str:
    """Return the code of a secret's value: who lacks the key cannot find the value by it."""
    return hmac.new(key.encode(), value.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()


def _comes_back(content: bytes, plan: Plan) -> bool:
    """Return whether a plan is what it was once the values of secrets are put back."""
    return with_secrets(content) == b"".join(encode_plan(plan))


def with_secrets(content: bytes) -> bytes:
    """Return a plan's file with values in place of the marks of secrets."""
    for name, value in SECRETS.values():
        mark = mark_of(name).encode()
        if mark in content:
            content = content.replace(mark, msgspec.json.encode(value)[1:-1])
    return content

"""Secrets that a revision names and the run did not have: their values reach tasks, and every mask, without being recorded.

The command sends the values with the request, over the operator's socket, or in the request's file until that is answered. The
controller learns them before the request is in the journal, and gives them to its successor and its agents before anything else.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from protocol.text.masking import mark_of
from sflow_ctl.core.requests import Apply
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.revising.files import UnusablePlanError, code_of, read_head, read_plan

if TYPE_CHECKING:
    from sflow_ctl.runtime.fleet.fleet import Fleet
    from sflow_ctl.runtime.viewing.messages import Ask


def with_new_secrets(plan: Plan, base: Plan) -> Plan:
    """Return a plan whose tasks have the values of secrets that only the caller's environment has, not the run's."""
    names = [name for name in plan.secrets if name not in plan.variables]
    if not names:
        return plan
    given = {name for task in base.tasks for name in names if name in task.env}  # by a revision before
    fresh = [name for name in names if name not in base.secrets or name in given]
    values = {
        name: os.environ.get(name, mark_of(name)) for name in fresh if name in given or name in os.environ
    }
    if not values:
        return plan
    return replace(plan, tasks=tuple(replace(task, env={**values, **task.env}) for task in plan.tasks))


def offered(plan: Plan, base: Plan) -> tuple[tuple[str, str], ...]:
    """Return name and value of the secrets that the run does not have."""
    fresh = {*plan.secrets} - {*base.secrets}
    return tuple((name, value) for name, value in SECRETS.values() if name in fresh)


def why_unusable(
    directory: Path, fleet: "Fleet", nodes: int, hand_over: Callable[[], object], ask: "Ask"
) -> str:
    """Return why a request to apply a plan cannot be judged, as a sentence; empty if it can.

    The secrets that come with it are known everywhere then: to this process, to its successor and to its agents.
    """
    assert isinstance(ask.action, Apply)
    source, key = ask.action.source, fleet.keys.operator
    try:
        _check_offered(directory, source, ask.secrets, key)
        if SECRETS.take(
            ask.secrets
        ):  # before the plan is in the journal: a successor must be able to read it
            from protocol.messages.orders import MaskValues

            hand_over()
            fleet.link.secrets = SECRETS.values()
            for node in range(nodes):
                fleet.link.send(node, MaskValues(secrets=fleet.link.secrets))
        read_plan(directory, source, key)
    except UnusablePlanError as error:
        return str(error)
    return ""


def _check_offered(directory: Path, source: str, secrets: Iterable[tuple[str, str]], key: str) -> None:
    """Check that values came with the plan that was made with them. Raises: UnusablePlanError."""
    head = read_head(directory, source) if secrets else None
    for name, value in secrets:
        if head is None or code_of(key, value) not in head.secrets.get(name, ()):
            raise UnusablePlanError(f"the plan was made with another value of secret {name}")

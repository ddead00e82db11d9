"""Looks, before a run, whether this machine has what uploads to buckets need. Cheap: boto3 is not imported for it.

Nodes do the uploads, so what is missing here is a warning. Called by `run/planning.py`.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from protocol.errors import Finding
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan

_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Each is the beginning of one of boto3's ways to credentials. Source: boto3, guide "Credentials"."""
_FILES = (
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("BOTO_CONFIG", "~/.boto"),
)


def upload_warnings(plan: Plan, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Return what uploads of the plan will probably lack."""
    used = {upload.target for task in kinds_of(plan.tasks) for upload in task.uploads}
    used |= {plan.upload_all.target} if plan.upload_all is not None else set()
    buckets = [target.name for target in plan.storage if target.type == "s3" and target.name in used]
    if not buckets:
        return []
    where = f"storage.{buckets[0]}"
    found = []
    if find_spec("boto3") is None:
        what = f'uploads to "{buckets[0]}" need the package boto3, which is not installed here'
        found.append(Finding("no-boto3", what, where, "pip install 'sflow-ctl[s3]'"))
    if not any(environment.get(name) for name in _VARIABLES) and not any(
        Path(environment.get(variable) or default).expanduser().is_file() for variable, default in _FILES
    ):
        what = (
            f'no credentials for "{buckets[0]}" are found here; a role of the machine may still provide some'
        )
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        found.append(Finding("no-credentials", what, where, hint))
    return found

"""The names of our files in a run directory.

All below `.sflow/`, except the logs and the files that the format puts beside them.

Tasks own every other name in the directory, so a task's `summary.json` is the task's. Used by all code that
writes or reads a run directory.
"""

OURS = ".sflow"
"""The one name that is ours."""
WORKFLOW = f"{OURS}/workflow.yaml"
PLAN = f"{OURS}/plan.json"
PLAN_GROWTH = f"{OURS}/plan_growth.jsonl"
PLANS = f"{OURS}/plans"
RUN = f"{OURS}/run.json"
JOURNAL = f"{OURS}/events.jsonl"
STATE = f"{OURS}/state.json"
CHECKPOINT = f"{OURS}/checkpoint.jsonl"
NODES = f"{OURS}/nodes.json"
SUMMARY = f"{OURS}/summary.json"
RESULTS = f"{OURS}/results.csv"
CELLS = f"{OURS}/cells.csv"
OUTPUTS = f"{OURS}/outputs.json"
OVERRIDES = f"{OURS}/overrides.json"
REUSE = f"{OURS}/reuse.json"
WINDOWS = f"{OURS}/monitor_windows.jsonl"
TELEMETRY = f"{OURS}/telemetry"
CONNECTION = f"{OURS}/connection.json"
OPERATOR = f"{OURS}/operator.json"
REQUESTS = f"{OURS}/requests"
CLAIM = f"{OURS}/controller.lock"
SUCCESSION = f"{OURS}/succession"
CONTROLLER = f"{OURS}/controller.json"
NONCE = f"{OURS}/nonce"
REPORT_JSON = f"{OURS}/report.json"
RUN_LOG, SUMMARY_LOG = "sflow.log", "sflow_summary.log"
"""Beside the tasks' directories, as in sflow."""
REPORT = "report.html"
"""For people, so it is beside them as well."""


def applied_plan(source: str) -> str:
    """Return the name of a plan that is to be applied, or was."""
    return f"{PLANS}/{source}.json"


def applied_head(source: str) -> str:
    """Return the name of what belongs to it."""
    return f"{PLANS}/{source}.head.json"


def revision_plan(revision: int) -> str:
    """Return the name of the plan that was in force as this revision."""
    return f"{PLANS}/{revision}.json"


def first_plan(lineage: int) -> str:
    """Return the name of the plan that a controller began with, if another one has come since."""
    return f"{PLANS}/start.{lineage}.json"


def earlier_summary(incarnation: int) -> str:
    """Return the name of the summary that an earlier controller wrote."""
    return f"{OURS}/summary.{incarnation}.json"


def earlier_plan(incarnation: int) -> str:
    """Return the name of the plan that an earlier controller ran: what a task's result is the result of."""
    return f"{OURS}/plan.{incarnation}.json"

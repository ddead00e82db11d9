"""Words that the format and the plan share: of dependencies, failures, rules, and places that are kept."""

from typing import Literal, TypeAlias

Until: TypeAlias = Literal["available", "ready", "started", "completed", "finished", "failed"]
"""How far a dependency must be. `available`, the format's own meaning, is ready or completed; `finished` is any end."""
OnFailure: TypeAlias = Literal["cancel", "drain", "isolate", "continue"]
"""What happens to the run when a task has failed for good.

It is stopped; nothing new starts; dependants are stopped; only dependants that have not started are skipped,
and the failure does not count.
"""
Compat: TypeAlias = Literal["ours", "0.3.1", "0.2"]
"""Whose rules apply: ours, or those of a version of sflow, known traps included."""
ReleaseAfter: TypeAlias = Literal["workflow_completion", "task_ready", "task_completion"]
"""Until when the GPUs or nodes of a task are kept from others."""
Pack: TypeAlias = Literal["nvlink", "numa", "none"]
"""What the GPUs of a task on a node should have in common."""
Near: TypeAlias = Literal["nic", "none"]
"""What they should be near."""
OnNodeLost: TypeAlias = Literal["fail", "elsewhere"]
"""What the loss of a task's node means for it: its end, or another start on other nodes."""
Shown: TypeAlias = Literal["all", "errors", "none"]
"""What of a task's output the console shows."""
OnOverflow: TypeAlias = Literal["truncate", "error"]
"""What happens with more cells of a sweep than are wanted."""

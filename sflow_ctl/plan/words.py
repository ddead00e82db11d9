"""Words that the format and the plan share: of dependencies, failures, rules, and places that are kept."""

from typing import Literal, TypeAlias

import msgspec

Until: TypeAlias = Literal["available", "ready", "started", "completed", "settled", "finished", "failed"]
"""How far a dependency must be.

`available`, the format's own meaning, is ready or completed; `finished` is any end; `settled` is an end that does not count
against the run: completed, skipped because of a condition, or failed with `on_failure: continue`.
"""
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
Collect: TypeAlias = Literal["gap", "drop", "fail"]
"""What a list of outputs over the items of a task has in place of one that is missing."""
OnOverflow: TypeAlias = Literal["truncate", "error"]
"""What happens with more cells of a sweep than are wanted."""
PolicyWord: TypeAlias = Literal["error", "warn", "off"]
"""What a finding means that is a matter of judgement: the run is refused, it is shown, nothing is said."""


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has said of findings: of one kind of them, and of all that are warnings otherwise."""

    default: PolicyWord = "warn"
    rules: dict[str, PolicyWord] = {}

    def word(self, code: str) -> PolicyWord:
        """Return what a finding of this code means, which is a warning unless it is `JUDGED` as something else."""
        from sflow_ctl.plan.parts.judging import JUDGED  # few runs have rules

        usual = JUDGED.get(code, ("warn", ""))[0]
        return self.rules.get(code, self.default if usual == "warn" else usual)

    def sets_aside(self, code: str) -> bool:
        """Return whether an error of this code is none."""
        from sflow_ctl.plan.parts.judging import LENIENT

        return code in LENIENT and self.word(code) != "error"

"""Keeps logs of earlier attempts that the controller writes, when an attempt begins. Called by the controller."""

from protocol.ids import RankId
from protocol.messages.orders import Spawn
from sflow_ctl.runtime.logs.service import OutputService


def rotate_logs(output: OutputService, spawn: Spawn) -> None:
    """Keep the logs of earlier attempts under their own names."""
    for spec in spawn.ranks:
        if spec.earlier_log is not None:
            attempt = spec.rank.attempt
            earlier = RankId(attempt._replace(number=attempt.number - 1), spec.rank.rank)
            output.rotate(earlier, spec.log, spec.earlier_log)

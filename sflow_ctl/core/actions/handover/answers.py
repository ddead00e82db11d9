"""What agents say about files that attempts take over from others. Few tasks have any, so who decides is imported when needed."""

from protocol.messages.facts import CheckpointFound, InputsChecked, OutputsFound
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.run import Run


def on_file_answer(
    run: Run, out: Effects, node: int, message: CheckpointFound | OutputsFound | InputsChecked, now: float
) -> None:
    """Take in what was found or checked."""
    if isinstance(message, CheckpointFound):
        from sflow_ctl.core.actions.checkpoints import on_found

        on_found(run, out, node, message, now)
        return
    from sflow_ctl.core.actions.handover.files import on_answer

    on_answer(run, out, node, message, now)


def repeat_file_orders(run: Run, out: Effects, node: int) -> None:
    """Order again what an agent with a new session has not answered."""
    if run.seeking:
        from sflow_ctl.core.actions.checkpoints import repeat_searches

        repeat_searches(run, out, node)
    if run.handing:
        from sflow_ctl.core.actions.handover.files import repeat_orders

        repeat_orders(run, out, node)

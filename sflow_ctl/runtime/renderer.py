"""Evaluates the deferred values of tasks in a thread, as the scheduler orders with `RenderTexts`.

Each expression has a budget of steps (`format/expressions/budget.py`), and all expressions of a task have a limit of time
together: the tasks behind it wait for the thread. Imported with the first order.
"""

import queue
import time
from collections.abc import Callable

from protocol.machine.loop_signals import QuietThread
from protocol.messages.handover import CheckpointChoice
from sflow_ctl.core.commands import RenderTexts
from sflow_ctl.core.events import TextsRendered
from sflow_ctl.core.model.run import Run
from sflow_ctl.plan.deferred import Evaluator
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedTask

LIMIT_S = 10.0
"""Processor time of the thread for one task: ten times what a single expression may take."""

Ports = dict[int, dict[str, tuple[int, ...]]]
"""By node and name."""


class Renderer:
    """Takes orders with `begin`; `wake` is called in the thread when there is something to `take`."""

    def __init__(self, run: Run, wake: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        self._run, self._wake, self._limit_s = run, wake, limit_s
        self._wanted: queue.SimpleQueue[tuple[PlannedTask, RenderTexts, Ports, CheckpointChoice | None]] = (
            queue.SimpleQueue()
        )
        self._done: queue.SimpleQueue[TextsRendered] = queue.SimpleQueue()
        QuietThread(self._work, "expressions").start()

    def begin(self, order: RenderTexts) -> None:
        """Begin to evaluate the values of an attempt."""
        task = self._run.task_named(order.task)
        ports = {node: dict(named) for node, named in task.attempt.ports.items()}
        self._wanted.put((task.plan, order, ports, task.attempt.checkpoint))

    def take(self) -> list[TextsRendered]:
        """Return what has been evaluated since the last call."""
        done: list[TextsRendered] = []
        while not self._done.empty():
            done.append(self._done.get_nowait())
        return done

    def _work(self) -> None:
        while True:
            self._done.put(self._rendered(*self._wanted.get()))
            self._wake()

    def _rendered(
        self, task: PlannedTask, order: RenderTexts, ports: Ports, checkpoint: CheckpointChoice | None
    ) -> TextsRendered:
        limited = self._run.deferred.limited(_until(time.thread_time() + self._limit_s, self._limit_s))
        try:
            if order.what == "when":
                holds, operands = limited.decided(task)
                return TextsRendered(
                    task=order.task, attempt=order.attempt, what="when", holds=holds, operands=operands
                )
            if order.what == "items":
                items = limited.items(task)
                return TextsRendered(task=order.task, attempt=order.attempt, what="items", items=items)
            if order.what == "block":
                step = limited.block_step(task)
                return TextsRendered(task=order.task, attempt=order.attempt, what="block", step=step)
            texts = limited.rendered(task, ports, checkpoint)
            return TextsRendered(task=order.task, attempt=order.attempt, texts=texts)
        except ExpressionError as error:
            problem, field = error.text, error.field
        except Exception as error:  # noqa: BLE001 - of this task alone, whatever it is
            problem, field = f"its expressions could not be evaluated: {type(error).__name__}: {error}", ""
        return TextsRendered(
            task=order.task, attempt=order.attempt, problem=problem, field=field, what=order.what
        )


def _until(limit: float, seconds: float) -> Callable[[Evaluator], Evaluator]:
    """Return a change of an evaluator, which begins no evaluation after that time of the thread."""

    def limited(evaluator: Evaluator) -> Evaluator:
        def check(text: str) -> None:
            if time.thread_time() > limit:
                raise ExpressionError(
                    f"the expressions of this task take more than {seconds:g} s together; not evaluated any more: {text[:120]} "
                    "(let a program compute them)"
                )

        def text(source: str, names: object) -> str:
            check(source)
            return evaluator.text(source, names)  # type: ignore[arg-type]

        def template(source: str, names: object) -> str:
            check(source)
            return evaluator.template(source, names)  # type: ignore[arg-type]

        def value(source: str, names: object) -> object:
            check(source)
            return evaluator.value(source, names)  # type: ignore[arg-type]

        return Evaluator(text=text, template=template, value=value)

    return limited

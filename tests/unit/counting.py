"""Counts what code does, for tests of its cost: instructions of Python, not time, so that a loaded machine changes nothing."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def instructions(run: Callable[[], object]) -> int:
    """Return how many instructions of Python a call takes, those of everything that it calls included."""
    steps = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return trace

    before = sys.gettrace()  # coverage's
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return steps

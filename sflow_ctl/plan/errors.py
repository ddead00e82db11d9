"""The error of an expression that cannot be compiled or evaluated.

Raised by `format` when it parses and evaluates; caught by the scheduler when a task starts, which does not
import `format`.
"""


class ExpressionError(Exception):
    """An expression that cannot be compiled or evaluated.

    `text` is a sentence, `hint` what to do; `others` are the errors of further expressions in the same text. `field` is the
    field of the task that has it, if that is known, as "variables.X".
    """

    def __init__(
        self,
        text: str,
        hint: str | None = None,
        is_undefined: bool = False,
        others: "tuple[ExpressionError, ...]" = (),
        field: str = "",
    ) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint
        self.is_undefined = is_undefined
        self.others = others
        self.field = field

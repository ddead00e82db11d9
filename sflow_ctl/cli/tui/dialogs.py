"""Questions of the full-screen view: a confirmation, a line of text, the help."""

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static


class Confirm(ModalScreen[bool]):
    """Asks whether something is to be done; only `y` does it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str, details: str = "") -> None:
        super().__init__()
        self._question = question
        self._details = details

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Vertical(classes="dialog"):
            yield Label(self._question, markup=False, classes="question")
            if self._details:
                yield Label(self._details, markup=False)
            yield Label("y  yes      n  no", markup=False, classes="keys")

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


Leaving = Literal["leave", "stop"]


class LeaveOrStop(ModalScreen[Leaving | None]):
    """Asks what becomes of a run that was started with its view."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s,y", "answer('stop')", "Stop"),
        Binding("l", "answer('leave')", "Leave"),
        Binding("n,escape,q", "stay", "Stay"),
    ]

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Vertical(classes="dialog"):
            yield Label("The run is live.", markup=False, classes="question")
            yield Label("s  stop it in order, and leave", markup=False)
            yield Label("l  leave it running: sflow-ctl attach --tui shows it again", markup=False)
            yield Label("n  stay", markup=False)

    def action_answer(self, how: Leaving) -> None:
        """Close with the answer."""
        self.dismiss(how)

    def action_stay(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class AskText(ModalScreen[str | None]):
    """Asks for one line; None if it is left with Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]

    def __init__(self, question: str, value: str = "", hint: str = "") -> None:
        super().__init__()
        self._question = question
        self._value = value
        self._hint = hint

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Vertical(classes="dialog"):
            yield Label(self._question, markup=False, classes="question")
            yield Input(self._value, compact=True)
            if self._hint:
                yield Label(self._hint, markup=False, classes="keys")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with what was typed."""
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class Help(ModalScreen[None]):
    """Shows a text until any of the keys that close it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "leave", "Close")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with VerticalScroll(classes="dialog help"):
            yield Static(self._text, markup=False)

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)

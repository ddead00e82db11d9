"""Finds the first line of a log that explains its program's end, by a signature or a Python traceback. Pure.

Only pieces of a log are searched, as text that a person reads: without escape sequences; a carriage return
ends a line.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, structs

from protocol.diagnosis.signatures import Signature, sentence
from protocol.text.ansi import LINE_END, without_escapes
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.line_pattern import Groups, LinePattern
from protocol.text.process_labels import Labels, without_labels
from sflow_agent.core.launcher_failures import launcher_failure

LINE_CHARACTERS = 500
"""The limit of a line that is kept, or searched: a regular expression must not meet a megabyte without an end."""
MANY_LINES = 200
"""A program that prints so much more has probably overcome what the line is about."""
_LONG = lazy_pattern(rf"^(.{{{LINE_CHARACTERS}}}).+$", re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = lazy_pattern(r"[A-Za-z_][\w.]*(?:\s?\([^)]*\))?(?::(?:\s.*)?)?$")
_NO_EXPLANATIONS = frozenset(
    {
        "KeyboardInterrupt",
        "SystemExit",
        "asyncio.exceptions.CancelledError",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError",  # of a launcher: read by `launcher_failures`
    }
)
_PORTS = (
    lazy_pattern(r"(?i)\bport(?: number)?\W{1,3}(?:(?:tcp|udp)/)?(\d{2,5})\b(?!\.\d|:[0-9a-f:])"),
    lazy_pattern(r"""['"][^'"]*['"]\s*,\s*(\d{2,5})\b"""),
    lazy_pattern(r"(?:^|[\s\"'(\[=]):(\d{2,5})\b(?![:.]\d)"),
    lazy_pattern(r"(?:[\d.]{7,}|\]|\*|::|\blocalhost):(\d{2,5})\b"),
    lazy_pattern(r"(?<=[A-Za-z0-9]):(\d{4,5})\b(?![:.]\d)"),
)
"""Spellings of a port in a message: `port 80`, `('0.0.0.0', 80)`, `:80`, `127.0.0.1:80` or `:::80`, `host:8000`."""


class LogExcerpt(Struct, frozen=True):
    """A part of a log that begins at byte `offset`, with a line."""

    offset: int
    data: bytes
    labels: Labels = "none"
    """Who has put process numbers before its lines; `text` leaves them out."""

    def text(self) -> str:
        """Its lines, for people."""
        plain = without_labels(without_escapes(self.data), self.labels)
        text = (
            LINE_END.sub(b"\n", plain).decode(errors="replace")
            if b"\r" in plain
            else plain.decode(errors="replace")
        )
        return _LONG.sub(r"\1", text)

    def start_of(self, line: int) -> int:
        """Return the byte of the log at which the piece's line number `line` (from 0) begins."""
        if line == 0:
            return self.offset
        ends = LINE_END.finditer(self.data)
        return self.offset + next(end.end() for number, end in enumerate(ends, 1) if number == line)


class ExplainingLine(Struct, frozen=True):
    """A line that explains an end."""

    reason: str
    text: str
    hint: str
    line: str
    offset: int
    """The line's first byte in the log."""
    doubt: str = ""
    """What else may be the cause: a line of a signature may be about something that the program overcame."""


class LogReader:
    """Searches excerpts; compiles the signatures once."""

    def __init__(self, signatures: Iterable[Signature]) -> None:
        self._signatures = [(one, LinePattern(one.pattern)) for one in signatures]

    @property
    def problems(self) -> list[str]:
        """Return a sentence about each signature that took too long on a line."""
        return [f"signature {one.name}: {regex.problem}" for one, regex in self._signatures if regex.problem]

    def explanation(
        self, pieces: Iterable[LogExcerpt], *, with_tracebacks: bool, is_step: bool = False
    ) -> ExplainingLine | None:
        """Return the first line that explains the end: of a signature in any piece, else of a traceback or launcher.

        The launcher of a job step is always asked: `srun` ends with the worst status, of ranks that it has killed itself.
        """
        texts = [(piece, piece.text()) for piece in pieces]
        for index, (piece, text) in enumerate(texts):
            found = self._by_signature(piece, text)
            if found is not None:
                return found if index == 0 else self._doubted(found, texts[0][1], MANY_LINES)
        readers = (_by_traceback, _by_launcher) if with_tracebacks else (_by_launcher,) if is_step else ()
        for reader in readers:
            for piece, text in texts:
                found = reader(piece, text)
                if found is not None:
                    return found
        return None

    def _by_signature(self, piece: LogExcerpt, text: str) -> ExplainingLine | None:
        best: tuple[int, int, Signature, Groups] | None = None  # where the line begins and ends
        small, block = text.lower(), text.encode(errors="replace")
        for signature, regex in self._signatures:
            if signature.contains and not any(part in small for part in signature.contains):
                continue
            if not regex.may_be_in(block):
                continue
            for start, end in _lines_with(
                signature.contains, text, small, len(text) if best is None else best[0]
            ):
                found = regex.matches(text[start:end], 1)
                if found and found[0][0]:
                    best = start, end, signature, found[0]
                    break
        if best is None:
            return None
        start, end, signature, groups = best
        line = _line_at(text, start)
        said = sentence(signature, self._regex_of(signature).named(groups), line)
        offset = piece.start_of(text.count("\n", 0, start))
        explains = ExplainingLine(signature.reason, said, signature.hint, line, offset)
        return self._doubted(explains, text[end:], text.count("\n", end))

    def _regex_of(self, signature: Signature) -> LinePattern:
        return next(regex for one, regex in self._signatures if one is signature)

    def _doubted(self, found: ExplainingLine, rest: str, lines: int) -> ExplainingLine:
        """Return what was found with what the log says after it, if that is of another error, or much."""
        last = _last_exception(rest)
        if last is not None and not self._is_of(found.reason, last):
            doubt = f"its last error is {last}"
        elif lines >= MANY_LINES:
            doubt = "its log continued long after that line"
        else:
            return found
        return structs.replace(found, doubt=doubt)

    def _is_of(self, reason: str, line: str) -> bool:
        return any(one.reason == reason and regex.is_in(line) for one, regex in self._signatures)


def _last_exception(text: str) -> str | None:
    position = text.rfind(_TRACEBACK)
    while position >= 0:
        start = text.rfind("\n", 0, position) + 1
        found = _exception_after(text, start, text[start:position])
        if found is not None:
            return found[1]
        position = text.rfind(_TRACEBACK, 0, position)
    return None


def _lines_with(words: Sequence[str], text: str, small: str, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the lines before `end` begin and end that have one of these words in small letters; all without words."""
    start = 0
    while start < end:
        line_end = text.find("\n", start)
        line_end = len(text) if line_end < 0 else line_end
        if (
            not words
            or len(small) != len(text)
            or any(small.find(word, start, line_end) >= 0 for word in words)
        ):
            yield start, line_end
        start = line_end + 1


def _line_at(text: str, start: int) -> str:
    end = text.find("\n", start)
    return text[start : end if end >= 0 else len(text)].strip()


# ---------------------------------------------------------------------- tracebacks


def _by_traceback(piece: LogExcerpt, text: str) -> ExplainingLine | None:
    position = text.find(_TRACEBACK)
    while position >= 0:
        start = text.rfind("\n", 0, position) + 1
        found = _exception_after(text, start, text[start:position])
        if found is not None:
            line_start, line = found
            offset = piece.start_of(text.count("\n", 0, line_start))
            return ExplainingLine("traceback", line, "", line, offset)
        position = text.find(_TRACEBACK, position + len(_TRACEBACK))
    return None


def _by_launcher(piece: LogExcerpt, text: str) -> ExplainingLine | None:
    failure = launcher_failure(text)
    if failure is None:
        return None
    start = text.rfind("\n", 0, failure.position) + 1
    offset = piece.start_of(text.count("\n", 0, start))
    return ExplainingLine(failure.reason, failure.text, "", _line_at(text, start), offset)


def _exception_after(text: str, start: int, prefix: str) -> tuple[int, str] | None:
    """Return (position, line) of the exception that ends a traceback.

    It is the first line that is not indented further. Every line may begin with the same label, as launchers
    and loggers write it; a group of exceptions has bars.
    """
    if prefix.endswith("+ Exception Group "):
        prefix = prefix.removesuffix("+ Exception Group ") + "| "
    position = text.find("\n", start) + 1
    while 0 < position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        raw = text[position:end]
        line = raw.removeprefix(prefix) if prefix else raw
        if line.strip() and not line.startswith((" ", "\t")):
            line = line.strip()
            is_exception = _EXCEPTION.match(line) is not None
            is_explanation = line.partition(":")[0] not in _NO_EXPLANATIONS
            return (position, line) if is_exception and is_explanation else None
        position = end + 1
    return None


# ---------------------------------------------------------------------- ports


def port_in(line: str) -> int | None:
    """Return the port in a message about an address, if it names one."""
    for regex in _PORTS:
        for match in regex.finditer(line):
            if 0 < int(match[1]) < 65536:
                return int(match[1])
    return None

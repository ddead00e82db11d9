"""Collects findings while planning, so that one bad field does not hide the next."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct, field

from protocol.errors import Finding, PlanError
from sflow_ctl.format.loader import LoadedDocument
from sflow_ctl.format.yaml_source import PathKey
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.words import Policies
from sflow_ctl.planner.numbers import NumberError

_HINTS = {"undefined-name": 'define it under "variables", or correct its name'}
"""Hints by the start of a message, for findings without a hint of their own."""


class UnplannableError(Exception):
    """A part of the file that cannot be planned; `Findings.collecting` turns it into a finding."""

    def __init__(self, code: str, what: str, hint: str | None = None, path: tuple[PathKey, ...] = ()) -> None:
        super().__init__(what)
        self.code, self.what, self.hint, self.path = code, what, hint, path
        self.others: tuple[UnplannableError, ...] = ()
        """Further problems of the same part of the file."""


class Findings(Struct):
    """The findings so far, and the positions of the files' fields."""

    loaded: LoadedDocument
    found: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    """Facts that only a shown plan says."""
    policies: Policies | None = None

    def add(self, code: str, what: str, where: str | None, hint: str | None = None) -> None:
        """Note a finding, once."""
        finding = self._finding(code, what, where, hint or _HINTS.get(code))
        if self.policies is not None and self.policies.sets_aside(code):
            self.warn(code, what, where, finding.hint)
        elif finding not in self.found[-50:]:
            self.found.append(finding)

    def warn(self, code: str, what: str, where: str | None, hint: str | None = None) -> None:
        """Note a warning, once."""
        finding = self._finding(code, what, where, hint)
        if finding not in self.warnings[-50:]:
            self.warnings.append(finding)

    def _finding(self, code: str, what: str, where: str | None, hint: str | None) -> Finding:
        """Return a finding in which tasks of blocks have the names that the file gives them."""
        finding = Finding(code, what, where, hint)
        blocks = self.loaded.document.workflow.blocks
        if not blocks:
            return finding
        from sflow_ctl.format.merged.blocks import findings_as_written  # few files have blocks

        return findings_as_written([finding], [one.name for one in blocks])[0]

    def note(self, code: str, what: str) -> None:
        """Note a fact that only a shown plan says."""
        self.notes.append(self._finding(code, what, None, None))

    def add_problem(self, problem: UnplannableError, section: str, name: str) -> None:
        """Note a problem of one part of the file as a finding."""
        where = self.loaded.where(section, name, *problem.path)
        self.add(problem.code, problem.what, where, problem.hint)

    def stop_if_any(self) -> None:
        """Raise PlanError with all findings, if there are any."""
        if self.found:
            raise PlanError(self.found)

    @contextmanager
    def collecting(self, section: str, name: str, *path: PathKey, subject: str = "") -> Iterator[None]:
        """Turn problems of this part of the file into findings; the code after the problem is skipped."""
        prefix = f"{subject}: " if subject else ""
        try:
            yield
        except UnplannableError as problem:
            for one in (problem, *problem.others):
                where = self.loaded.where(section, name, *(one.path or path))
                self.add(one.code, one.what, where, one.hint)
        except NumberError as problem:
            full = problem.path or path
            what = f"{prefix}{_field(full)} {problem}".replace(":  ", ": ")
            self.add("wrong-value", what, self.loaded.where(section, name, *full))
        except ExpressionError as problem:
            where = self.loaded.where(section, name, *path)
            for error in (problem, *problem.others):
                code = "undefined-name" if error.is_undefined else "expression-failed"
                self.add(code, f"{prefix}{error.text}", where, error.hint)


def _field(path: tuple[PathKey, ...]) -> str:
    names = [str(key) for key in path if isinstance(key, str)]
    return ".".join(names[-2:])


Evaluate = Callable[[Any], Any]

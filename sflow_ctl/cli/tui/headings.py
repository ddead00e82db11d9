"""The lines at the top of the full-screen view: what the run does, and how it ended."""

import time

from textual.widgets import Static

from protocol.text.ansi import printable_line
from sflow_ctl.cli.tui.feed import Feed
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.screen.task_rows import counts_text
from sflow_ctl.report.words import duration_text


class Title(Static):
    """The run, its state and age, and how many tasks are in each state."""

    def draw(self, feed: Feed, name: str) -> None:
        """Show what the feed knows now."""
        end = feed.summary
        if end is not None:
            elapsed, word = duration_text(end.duration_s), end.outcome.value
        else:
            age_s = max(0.0, (time.time_ns() - feed.started_wall_ns) // 1_000_000_000)
            elapsed = f"{age_s:.0f} s" if age_s < 60 else duration_text(age_s)
            word = feed.liveness.value
            word += ", paused" if feed.state.paused_by else ""
        self.update(f"{name}  {word} {elapsed}  {counts_text(feed.state)}")


class Banner(Static):
    """How the run ended, the first cause before all; hidden while it runs."""

    def draw(self, feed: Feed) -> bool:
        """Show it once there is something to say; return True then."""
        lines = [feed.problem] if feed.problem else feed.end_lines()
        if self.display or not lines:
            return False
        self.update("\n".join(printable_line(SECRETS.mask.text(line)) for line in lines))
        self.set_class(feed.is_bad or bool(feed.problem), "bad")
        self.display = True
        return True

"""What a turn of the agent's loop costs: what has happened, not how many sources there are."""

from collections.abc import Sequence

from protocol.machine.loop_watch import LoopWatch
from protocol.messages.facts import Terminated
from sflow_agent.core.agent import AgentCore
from sflow_agent.core.commands import AgentCommand, Report
from sflow_agent.core.events import AgentEvent, TerminationSeen
from sflow_agent.loop import Loop

NEVER = None


class Source:
    """A source that has news when a test says so."""

    def __init__(self, due: float | None) -> None:
        self.due = due
        self.polls = 0
        self.news: list[AgentEvent] = []

    def next_wakeup(self) -> float | None:
        return 0.0 if self.news else self.due

    def poll(self, _now: float, /) -> Sequence[AgentEvent]:
        self.polls += 1
        news, self.news = self.news, []
        return news


class Agent:
    """A loop with these sources, whose waits end at once."""

    def __init__(self, *sources: Source) -> None:
        self.waits: list[int] = []
        self.performed: list[AgentCommand] = []
        self.loop = Loop(
            AgentCore(is_in_job=True), self._perform, self.waits.append, lambda _now: None, LoopWatch()
        )
        self.loop.sources += sources

    def _perform(self, command: AgentCommand, _now: float) -> Sequence[AgentEvent]:
        self.performed.append(command)
        return ()


def test_a_turn_polls_only_the_sources_that_are_due() -> None:
    idle, late, due = Source(NEVER), Source(1e12), Source(0.0)
    agent = Agent(idle, late, due)
    for _ in range(3):
        agent.loop.turn()
    assert (idle.polls, late.polls, due.polls) == (0, 0, 3)


def test_a_loop_with_news_does_not_wait_and_one_without_waits_for_ever() -> None:
    source = Source(NEVER)
    agent = Agent(Source(NEVER), source)
    agent.loop.turn()
    source.news = [TerminationSeen()]
    agent.loop.turn()
    assert agent.waits == [-1, 0]
    assert agent.performed == [Report(Terminated())]
    assert source.polls == 1


def test_a_source_that_gets_news_from_one_before_it_is_served_in_the_same_turn() -> None:
    second = Source(NEVER)

    class First(Source):
        def poll(self, now: float, /) -> Sequence[AgentEvent]:
            second.news = [TerminationSeen()]
            return super().poll(now)

    agent = Agent(First(0.0), second)
    agent.loop.turn()
    assert agent.performed == [Report(Terminated())]


def test_what_the_prompt_source_reports_is_sent_before_others_are_looked_at() -> None:
    prompt, behind = Source(NEVER), Source(0.0)
    agent = Agent(Source(NEVER), prompt, behind)
    sent: list[tuple[int, int]] = []
    agent.loop = Loop(
        AgentCore(is_in_job=True),
        agent._perform,
        agent.waits.append,
        lambda _now: sent.append((len(agent.performed), behind.polls)),
        LoopWatch(),
    )
    agent.loop.sources += [prompt, behind]
    agent.loop.prompt = prompt
    prompt.news = [TerminationSeen()]
    agent.loop.turn()
    assert sent == [(1, 0), (1, 1)]

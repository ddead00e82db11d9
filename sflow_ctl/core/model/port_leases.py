"""The ports of tasks: leased from agents when an attempt needs them, known to all tasks from then on. Pure.

An attempt that needs ports, its own or those of others, has its place and begins; its processes are ordered
once all ports are known. A task has its ports from the first request for them until it has ended for good,
over all of its attempts. If another process has taken one, its node is asked again, with a higher number.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from protocol.messages.facts import Leased
from protocol.messages.orders import Lease, Release
from protocol.messages.rank_spec import PortBlock
from sflow_ctl.core.model.ranks import MASTER
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TERMINAL
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.task_views import TaskPorts


class Key(NamedTuple):
    """The unit of a lease: all ports of a task on a node."""

    task: int
    node: int


class SavedLease(Struct, frozen=True, array_like=True):
    """What is known of a task's ports on a node, as a checkpoint has it."""

    node: int
    number: int
    """Of the last order."""
    known: dict[str, tuple[int, ...]] | None
    is_held: bool
    asked: tuple[PortBlock, ...] | None


Orders = list[tuple[int, Lease | Release]]
"""Orders to agents, by node."""


def needs_leases(task: PlannedTask) -> bool:
    """Return whether a task has ports or uses those of others."""
    return bool(task.ports or task.has_master_port or ((task.deferred or task.files) and task.uses_ports))


class Leases:
    """The known ports, the requested ones, and the attempts that wait for them."""

    def __init__(
        self,
        plan: Plan,
        tasks: Sequence[Task],
        index_of: Mapping[str, int],
        is_gone: Callable[[int], bool] = lambda _node: False,
        changed: set[int] | None = None,
    ) -> None:
        """`index_of` has the tasks by name; the indices of those whose leases change are added to `changed`."""
        self._plan, self._tasks, self._is_gone = plan, tasks, is_gone
        self._changed = set() if changed is None else changed
        self._index_of = index_of
        self._members: dict[str, list[int]] = {}
        self.use(plan)
        self._known: dict[Key, Mapping[str, tuple[int, ...]]] = {}
        self._held: dict[int, set[int]] = {}
        """Maps tasks to the nodes whose agents hold ports for them."""
        self._asked: dict[Key, tuple[PortBlock, ...]] = {}
        """What each unanswered order asks for: repeated as it was, wherever the task is to run by then."""
        self._numbers: dict[Key, int] = {}
        self._nodes: dict[int, set[int]] = {}
        """The nodes whose agents were ever asked for ports of a task."""
        self._lacks: dict[int, set[Key]] = {}
        """Attempts that have begun without processes, and the leases they wait for."""
        self._waiters: dict[Key, set[int]] = {}

    def use(self, plan: Plan) -> None:
        """Take the replicas of a plan: of the first one, or of a revision."""
        self._members = {
            base: [self._index_of[member.name] for member in members]
            for base, members in (
                plan.members().items() if any(task.ports for task in kinds_of(plan.tasks)) else ()
            )
            if any(member.ports for member in members)
        }

    def grow(self, plan: Plan, tasks: Iterable[Task]) -> None:
        """Take in the replicas that have joined a live run."""
        if any(task.plan.ports for task in tasks):
            self.use(plan)

    def forget(self, task: Task) -> None:
        """Have a task ask for its ports anew, which are others than before, when it starts."""
        for key in [one for one in self._known if one.task == task.index]:
            self._forget(key)

    # ------------------------------------------------------------------ attempts

    def begin(self, task: Task) -> Orders:
        """Return the orders for an attempt that has its place. `is_waiting` is whether it must wait."""
        orders: Orders = []
        for node in sorted(self._held.get(task.index, set()) - set(task.attempt.node_of_rank)):
            self._forget(Key(task.index, node))  # an earlier attempt was elsewhere
            orders.append((node, Release(task=task.plan.name)))
        for key in self._own_needs(
            task
        ):  # one of its other nodes may be the first now, with the rendezvous port
            known = self._known.get(key)
            if known is not None and any(block.name not in known for block in self._blocks(key)):
                self._forget(key)
            if any(block not in self._asked.get(key, (block,)) for block in self._blocks(key)):
                self._changed.add(key.task)
                del self._asked[key]  # the answer to it would not do
        lacks = {key for key in self._needs(task) if key not in self._known}
        if lacks:
            self._lacks[task.index] = lacks
        for key in sorted(lacks):
            self._waiters.setdefault(key, set()).add(task.index)
            if key not in self._asked:
                orders.append((key.node, self._order(key)))
        return orders

    def is_waiting(self, task: Task) -> bool:
        """Return whether an attempt has begun and lacks ports."""
        return task.index in self._lacks

    def nodes_lacking(self, task: Task) -> set[int]:
        """Return the nodes whose answer an attempt waits for."""
        return {key.node for key in self._lacks.get(task.index, ())}

    def waiting_for(self, nodes: Collection[int]) -> list[Task]:
        """Return the attempts that wait for the answer of one of these nodes."""
        waiting = [index for index, lacks in self._lacks.items() if any(key.node in nodes for key in lacks)]
        return [self._tasks[index] for index in sorted(waiting)]

    def all_waiting(self) -> list[Task]:
        """Return the attempts that have begun and lack ports."""
        return [self._tasks[index] for index in sorted(self._lacks)]

    def withdraw(self, task: Task) -> None:
        """End the wait of an attempt that is over."""
        for key in self._lacks.pop(task.index, ()):
            self._waiters.get(key, set()).discard(task.index)

    def own_of(self, task: Task) -> dict[int, Mapping[str, tuple[int, ...]]]:
        """Return, by node, the ports of an attempt that has all it needs."""
        return {key.node: self._known[key] for key in self._own_needs(task)}

    def ports_of(self, name: str) -> TaskPorts | None:
        """Return a task's ports on its first node, as far as they are known."""
        task = self._tasks[self._index_of[name]]
        node = self._first_node(task)
        ports = None if node is None else self._known.get(Key(task.index, node))
        return None if node is None or ports is None else TaskPorts(self._plan.nodes[node].address, ports)

    # ------------------------------------------------------------------ answers

    def on_leased(self, node: int, message: Leased) -> list[Task]:
        """Take an answer; return the attempts that have all they need now, or, for a refusal, those that it fails."""
        key = Key(self._index_of.get(message.task, -1), node)
        if key not in self._asked or message.number != self._numbers[key]:
            return []
        self._changed.add(key.task)
        del self._asked[key]
        waiting = sorted(self._waiters.pop(key, ()))
        if message.problem:
            return [self._tasks[index] for index in waiting]
        self._known[key] = message.ports
        self._held.setdefault(key.task, set()).add(node)
        for index in waiting:
            self._lacks[index].discard(key)
        complete = [index for index in waiting if not self._lacks[index]]
        for index in complete:
            del self._lacks[index]
        return [self._tasks[index] for index in complete]

    # ------------------------------------------------------------------ changes

    def renew(self, task: Task, node: int) -> None:
        """Have the next attempt ask for other ports: another process has one of them."""
        self._forget(Key(task.index, node))

    def node_joined(self, node: int, is_restarted: bool) -> Orders:
        """Return the orders that an agent has not answered; a restarted agent has lost all its leases."""
        if is_restarted:
            for index in [index for index, nodes in self._held.items() if node in nodes]:
                self._forget(Key(index, node))
            for index in list(self._lacks):
                self._lack_again(index)
        return [(key.node, self._order(key)) for key in sorted(self._asked) if key.node == node]

    def ended(self, task: Task) -> Orders:
        """Return the orders that free the ports of a task that will not start again. The numbers stay known."""
        self._changed.add(task.index)
        nodes = sorted(self._held.pop(task.index, ()))
        return [(node, Release(task=task.plan.name)) for node in nodes]

    def begin_anew(self, task: Task) -> None:
        """Have a task that had ended lease ports again when it starts: its agents have freed them."""
        for key in list(self._own_needs(task)):
            self._forget(key)

    # ------------------------------------------------------------------ checkpoints

    def saved_of(self, task: int) -> list[SavedLease]:
        """Return what is known of a task's ports."""
        keys = [Key(task, node) for node in sorted(self._nodes.get(task, ()))]
        return [
            SavedLease(
                key.node,
                self._numbers[key],
                None if key not in self._known else dict(self._known[key]),
                key.node in self._held.get(task, ()),
                self._asked.get(key),
            )
            for key in keys
        ]

    def restore_task(self, task: int, saved: Sequence[SavedLease]) -> None:
        """Take what a checkpoint has of a task's ports."""
        for lease in saved:
            key = Key(task, lease.node)
            self._nodes.setdefault(task, set()).add(lease.node)
            self._numbers[key] = lease.number
            self._known.pop(key, None)
            self._asked.pop(key, None)
            if lease.known is not None:
                self._known[key] = lease.known
            if lease.asked is not None:
                self._asked[key] = lease.asked
            held = self._held.setdefault(task, set())
            (held.add if lease.is_held else held.discard)(lease.node)

    def saved_waits(self) -> list[tuple[int, list[Key]]]:
        """Return the attempts that lack ports, and which."""
        return [(index, sorted(keys)) for index, keys in self._lacks.items()]

    def restore_waits(self, saved: Iterable[tuple[int, list[Key]]]) -> None:
        """Take the attempts that lack ports in a checkpoint."""
        self._lacks = {index: set(keys) for index, keys in saved}
        self._waiters = {}
        for index, keys in self._lacks.items():
            for key in keys:
                self._waiters.setdefault(key, set()).add(index)

    # ------------------------------------------------------------------ orders

    def _forget(self, key: Key) -> None:
        self._changed.add(key.task)
        self._known.pop(key, None)
        self._held.get(key.task, set()).discard(key.node)

    def _lack_again(self, index: int) -> None:
        for key in self._needs(self._tasks[index]):
            if key not in self._known:
                self._lacks[index].add(key)
                self._waiters.setdefault(key, set()).add(index)
                if key not in self._asked:
                    self._order(key)

    def _order(self, key: Key) -> Lease:
        """Return the order for a missing lease; repeated while it is unanswered."""
        if key not in self._asked:
            self._changed.add(key.task)
            self._nodes.setdefault(key.task, set()).add(key.node)
            self._asked[key] = self._blocks(key)
            self._numbers[key] = self._numbers.get(key, 0) + 1
        name = self._tasks[key.task].plan.name
        return Lease(task=name, number=self._numbers[key], blocks=self._asked[key])

    def _blocks(self, key: Key) -> tuple[PortBlock, ...]:
        task = self._tasks[key.task]
        return blocks_of(task.plan, is_first=key.node == self._first_node(task))

    # ------------------------------------------------------------------ who needs what

    def _needs(self, task: Task) -> Iterable[Key]:
        yield from self._own_needs(task)
        for other in self._used_by(task):
            node = self._first_node(other)
            if node is not None:
                yield Key(other.index, node)

    def _used_by(self, task: Task) -> Iterable[Task]:
        """Yield the tasks whose ports a task uses."""
        for name in task.plan.uses_ports:
            for index in self._members.get(name) or [self._index_of[name]]:
                yield self._tasks[index]

    def awaits_place(self, task: Task) -> bool:
        """Return True while a task whose ports this one uses has lost its node and has no other one yet."""
        return bool(task.plan.uses_ports) and any(
            other is not task
            and other.state not in TERMINAL
            and other.unmet == 0
            and self._has_lost_place(other)
            for other in self._used_by(task)
        )

    def _first_node(self, task: Task) -> int | None:
        """Return where a task's first process is or will be; None while that is not known."""
        if task.attempt.node is not None or task.plan.placement.is_flexible:
            return task.attempt.node
        return None if self._has_lost_place(task) else task.plan.placement.nodes[0]

    def _has_lost_place(self, task: Task) -> bool:
        """Return whether a task that may be moved waits for another place."""
        if task.plan.elsewhere is None or task.attempt.placement is not None:
            return False
        return any(map(self._is_gone, task.plan.placement.nodes))

    def _own_needs(self, task: Task) -> Iterable[Key]:
        """Return the task's own leases, on every node where it has processes."""
        if not task.plan.ports and not task.plan.has_master_port:
            return ()  # nearly all tasks
        nodes = list(dict.fromkeys(task.attempt.node_of_rank))
        return [
            Key(task.index, node)
            for position, node in enumerate(nodes)
            if blocks_of(task.plan, is_first=position == 0)
        ]


def blocks_of(task: PlannedTask, *, is_first: bool) -> tuple[PortBlock, ...]:
    """Return the ports that a task leases on a node, the first one or another."""
    has_one = any(block.name == MASTER for block in task.ports)
    if task.has_master_port and is_first and not has_one:
        return (*task.ports, PortBlock(name=MASTER))
    return task.ports

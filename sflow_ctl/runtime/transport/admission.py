"""Which key belongs to which node's agent, and how the agents of a job step come to keys of their own.

A job step starts all agents alike, so their first keys are derived from a seed in its environment, which srun keeps
where every process of the user can read it. Such a key is good for one thing: a hello that names a key which the agent
has made in its own memory. It is void once all agents have reported, which is before the first task. An agent that takes
the place of one that was killed gets a key of this kind for itself, over the standard input of its step. Used by `link`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from protocol.messages.facts import Hello
from protocol.messages.orders import Enrolled, Refused
from sflow_ctl.runtime.fleet.keys import KeyPair, RunKeys

if TYPE_CHECKING:
    from sflow_ctl.runtime.transport.zap import Authenticator


class Admission:
    """The agents' keys, and what each may do."""

    def __init__(self, keys: RunKeys, auth: "Authenticator") -> None:
        self._auth = auth
        self._node_of_key: dict[str, int] = {}
        self._key_of_node: dict[int, str] = {}
        self._enrolment = {pair.public: node for node, pair in keys.enrolment.items()}
        self._renewed: dict[str, int] = {}
        """Keys for agents that take the places of others, while tasks run: good until the first use of the agent's own."""
        for node, pair in enumerate(keys.agents):
            if node not in keys.enrolment:
                self._admit(node, pair.public)
        for key in self._enrolment:
            auth.allow("control", key)

    def admit(self, nodes: Mapping[str, int]) -> None:
        """Take over the keys that agents of a job step have named to a controller that was killed, with their nodes."""
        for key, node in nodes.items():
            if key not in self._node_of_key:
                self._admit(node, key)

    def admitted(self) -> dict[str, int]:
        """Return the keys of all agents, with their nodes."""
        return dict(self._node_of_key)

    def node_of_key(self, key: str) -> int | None:
        """Return the node whose agent has this key of its own."""
        return self._node_of_key.get(key)

    def node_to_enrol(self, key: str) -> int | None:
        """Return the node whose agent may name its own key by means of this one."""
        return self._enrolment.get(key, self._renewed.get(key))

    def enrol(self, node: int, hello: Hello) -> Enrolled | Refused:
        """Take the key that a job step's agent has made itself. The first one of a node counts."""
        known = self._key_of_node.get(node)
        if known is None and _is_key(hello.key):
            self._admit(node, hello.key)
        elif known is None or known != hello.key:
            reason = (
                f"node {node} has an agent already, with another key" if known else "its hello names no key"
            )
            return Refused(code="not-enrolled", reason=reason)
        return Enrolled(key=hello.key)

    def renew(self, node: int) -> KeyPair:
        """Return the key with which one more agent of a node may name its own; those of the agents before are void."""
        self._void_of(node)
        pair = KeyPair.make()
        self._renewed[pair.public] = node
        self._auth.allow("control", pair.public)
        return pair

    def has_joined(self, node: int) -> None:
        """Void the key of `renew`, if there is one: the node's agent has a key of its own, and uses it."""
        for key, other in list(self._renewed.items()):
            if other == node:
                del self._renewed[key]
                self._auth.revoke(key)

    def _void_of(self, node: int) -> None:
        self.has_joined(node)
        self._key_of_node.pop(node, None)
        for key, other in list(self._node_of_key.items()):
            if other == node:
                del self._node_of_key[key]
                self._auth.revoke(key)

    def restart_enrolment(self) -> None:
        """Let the agents of a job step that is started again name new keys; those of the earlier ones are void."""
        nodes = set(self._enrolment.values())
        for key, node in list(self._node_of_key.items()):
            if node in nodes:
                del self._node_of_key[key]
                self._key_of_node.pop(node, None)
                self._auth.revoke(key)

    def end_enrolment(self) -> None:
        """Void the keys of the job step's environment: from now on tasks run, which can read it from srun."""
        for key in self._enrolment:
            self._auth.revoke(key)
        self._enrolment.clear()

    def _admit(self, node: int, key: str) -> None:
        self._node_of_key[key] = node
        self._key_of_node.setdefault(node, key)
        self._auth.allow("control", key)
        self._auth.allow("logs", key)


def _is_key(text: str) -> bool:
    """Return whether a text is a public CURVE key: 32 bytes as Z85."""
    from zmq.utils import z85

    try:
        return len(text) == 40 and len(z85.decode(text)) == 32
    except (ValueError, KeyError):
        return False

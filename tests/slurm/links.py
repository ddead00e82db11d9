"""The cluster's network: one switch, a cable to every machine, and everything that can go wrong with a cable."""

from tests.slurm.machine import Machine, checked
from tests.slurm.processes import Process
from tests.slurm.settings import address, black_hole_address


class Network:
    """The switch is a bridge in the keeper's network namespace; its ports have the names of the machines."""

    def __init__(self, keeper: Process) -> None:
        self._enter = ["nsenter", "--target", str(keeper.pid), "--net", "--"]

    def make(self) -> None:
        """Once per cluster."""
        self._ip("link add switch type bridge", "link set switch up")

    def plug_in(self, machine: Machine) -> None:
        """Gives a machine that has just started its `eth0`."""
        own = address(machine.name)
        mac = "02:00:" + ":".join(f"{int(part):02x}" for part in own.split("."))
        self._ip(
            f"link add {machine.name} type veth peer name eth0 address {mac} netns {machine.first.pid}",
            f"link set {machine.name} master switch up",
        )
        machine.shell(
            f"ip addr add {own}/24 dev eth0",
            "ip link set eth0 up",
            # Everybody knows a way to the black holes, or packets to them would be refused on the spot.
            "ip route add 10.78.0.0/24 dev eth0",
        )

    def unplug(self, machine: Machine) -> None:
        """The link is down at once on both ends, as after a loss of power."""
        self._ip(f"link del {machine.name}")

    def cut(self, machine: Machine) -> None:
        """Packets from and to it vanish without a word; its link stays up."""
        checked([*self._enter, "bridge", "link", "set", "dev", machine.name, "state", "disabled"])

    def lose(self, machine: Machine, percent: float) -> None:
        """Drop that part of the packets that come to it from others."""
        chance = f"--mode random --probability {percent / 100:g}"
        machine.shell(f"iptables -A INPUT -i eth0 -m statistic {chance} -j DROP")

    def slow(self, machine: Machine, kbit_per_s: int, latency_ms: int) -> None:
        """Limits both directions; a packet waits at most that long in the queue before it is dropped."""
        limit = f"tbf rate {kbit_per_s}kbit burst 32kbit latency {latency_ms}ms"
        machine.shell(f"tc qdisc replace dev eth0 root {limit}")
        checked([*self._enter, *f"tc qdisc replace dev {machine.name} root {limit}".split()])

    def add_black_hole_address(self, machine: Machine) -> str:
        """Returns a second address of the machine, on an interface of its own, that only itself can reach.

        Its name comes before `eth0`, so it is the first that a list of all has.
        """
        hole = black_hole_address(machine.name)
        cable = f"{machine.name}-hole"
        self._ip(
            f"link add {cable} type veth peer name blackhole netns {machine.first.pid}",
            f"link set {cable} up",
        )
        machine.shell(
            f"ip addr add {hole}/32 dev blackhole",
            "ip link set blackhole up",
            f"iptables -A INPUT -i eth0 -d {hole} -j DROP",
        )
        return hole

    def heal(self, machine: Machine) -> None:
        """Undoes all of the above but `unplug`."""
        checked([*self._enter, "bridge", "link", "set", "dev", machine.name, "state", "forwarding"])
        checked([*self._enter, "sh", "-c", f"tc qdisc del dev {machine.name} root 2>&- || true"])
        machine.shell(
            "tc qdisc del dev eth0 root 2>&- || true",
            "iptables -F INPUT",
            "ip link del blackhole 2>&- || true",
        )

    def _ip(self, *commands: str) -> None:
        checked([*self._enter, "ip", "-batch", "-"], "\n".join(commands))

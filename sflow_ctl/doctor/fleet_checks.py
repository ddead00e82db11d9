"""Checks of all nodes together, and of Slurm."""

from collections.abc import Iterator

from sflow_ctl.doctor.facts import SLURM_SETTINGS, Clock, Examination, SlurmFacts
from sflow_ctl.doctor.node_checks import reported
from sflow_ctl.doctor.verdicts import Topic, Verdict, fail, ok, seconds, span, topic, warn

CLOCK_S = 1.0
SHORT_S = 300.0
OLDEST_SLURM = (20, 11)
"""The first version with `srun --overlap`."""
MATTERING = ("sflow-ctl", "python", "pyzmq", "libzmq", "msgspec")


def agent_topic(examination: Examination) -> Topic:
    """Judge which agents have joined, and which questions they did not answer."""
    verdicts: list[Verdict] = []
    for name, why in examination.missing:
        fix = f"can it reach {examination.host}? Try --interface, or leave it out: sbatch --exclude={name}"
        verdicts.append(fail(name, f"its agent has not connected: {why}", fix))
    for node in examination.nodes:
        if node.lost:
            verdicts.append(
                fail(node.name, f"its agent is gone: {node.lost}", f"sbatch --exclude={node.name}")
            )
        elif node.report is None:
            fix = "check the load of the node, and its file systems (df)"
            verdicts.append(fail(node.name, "its agent has not described its node", fix))
        else:
            fix = "something on that node hangs or is not readable: try it by hand"
            verdicts += [warn(node.name, f"{what}: {why}", fix) for what, why in node.report.unanswered]
        verdicts.append(ok(node.name, f"connects from {node.address or 'an unknown address'}"))
    total = len(examination.nodes) + len(examination.missing)
    summary = f"{len(examination.nodes)}/{total} agents connected in {seconds(examination.called_after_s)}"
    return topic("agents", summary, verdicts)


def clock_topic(examination: Examination) -> Topic:
    """Judge whether wall clocks agree: times in logs are compared, tokens and certificates expire."""
    verdicts: list[Verdict] = []
    worst = 0.0
    for node in examination.nodes:
        if node.clock is None:
            continue
        worst = max(worst, abs(node.clock.ahead_s))
        way = "ahead of" if node.clock.ahead_s > 0 else "behind"
        if is_off(node.clock):
            text = f"its clock is {seconds(abs(node.clock.ahead_s))} {way} {examination.host}'s"
            verdicts.append(warn(node.name, text, "set it: chronyd or ntpd must run there (timedatectl)"))
        else:
            off, sure = seconds(abs(node.clock.ahead_s)), seconds(node.clock.uncertainty_s)
            verdicts.append(ok(node.name, f"{off} {way} {examination.host}, sure to {sure}"))
    known = [node.clock for node in examination.nodes if node.clock is not None]
    summary = f"within {seconds(worst)} of {examination.host}" if known else "no clock could be compared"
    return topic("clocks", summary, verdicts)


def is_off(clock: Clock) -> bool:
    """Return whether a clock is surely wrong by more than a second."""
    return abs(clock.ahead_s) - clock.uncertainty_s > CLOCK_S


def version_topic(examination: Examination) -> Topic:
    """Judge whether the same versions are installed everywhere."""
    here = {"sflow-ctl": examination.version, "python": examination.python}
    nodes = reported(examination)
    verdicts: list[Verdict] = []
    drivers = span(dict(report.versions).get("driver", "") for _, report in nodes)
    for node, report in nodes:
        versions = dict(report.versions)
        verdicts += [
            warn(
                node.name,
                f"{name} {versions[name]}, on {examination.host} {wanted} ({node.install_path})",
                "install sflow-ctl once, in an environment that all nodes see",
            )
            for name, wanted in here.items()
            if versions.get(name, wanted) != wanted
        ]
        shown = ", ".join(f"{name} {versions[name]}" for name in (*MATTERING, "driver") if name in versions)
        verdicts.append(ok(node.name, f"{shown}, Linux {report.kernel}, in {node.install_path}"))
    if " or " in drivers:
        verdicts += [
            warn(
                node.name,
                f"NVIDIA driver {dict(report.versions).get('driver', 'none')}",
                "one version everywhere",
            )
            for node, report in nodes
        ]
    return topic("versions", f"sflow-ctl {examination.version}, Python {examination.python}", verdicts)


def slurm_topic(examination: Examination) -> Topic:
    """Judge what Slurm's configuration means for a run."""
    slurm = examination.slurm
    if slurm is None:
        return topic("slurm", "not in a job: only this machine was examined", [])
    left = "no time limit" if slurm.left_s is None else f"{seconds(slurm.left_s)} left"
    partition = f" in {slurm.partition}" if slurm.partition else ""
    summary = f"job {slurm.job_id}{partition}, {left}, Slurm {slurm.version or 'of unknown version'}"
    return topic("slurm", summary, _slurm(slurm))


def _slurm(slurm: SlurmFacts) -> Iterator[Verdict]:
    if slurm.left_s is not None and slurm.left_s < SHORT_S:
        text = f"the job ends in {seconds(max(0.0, slurm.left_s))}"
        yield warn((), text, "request more: sbatch --time, or scontrol update jobid=... timelimit=...")
    numbers = tuple(int(part) for part in slurm.version.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < OLDEST_SLURM:
        yield fail((), f"Slurm {slurm.version} has no srun --overlap", "20.11 or newer is needed")
    settings = dict(slurm.settings)
    for name in SLURM_SETTINGS:
        if name in settings:
            yield ok((), f"{name}={settings[name]}")

"""The command group: names, lazy loading, and click's own errors. `program.py` handles all others."""

import importlib
import io
import sys
from typing import TYPE_CHECKING

import click

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.importing import uncollected
from sflow_ctl.cli.terminal.lines import print_line

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS = {
    "run": ("sflow_ctl.cli.commands.run", "run", "Run a workflow."),
    "plan": ("sflow_ctl.cli.commands.plan", "plan", "Check a workflow and print its plan; start nothing."),
    "init": ("sflow_ctl.cli.start.init", "init", "Write a first workflow file, with comments."),
    "validate": ("sflow_ctl.cli.start.validate", "validate", "Print what is wrong with a workflow."),
    "rerun": ("sflow_ctl.cli.again.rerun", "rerun", "Run tasks of an earlier run again."),
    "replay": ("sflow_ctl.cli.again.replay", "replay", "Begin a new run with the plan of an earlier one."),
    "ps": ("sflow_ctl.cli.looking.ps", "ps", "List your runs, here and elsewhere."),
    "attach": ("sflow_ctl.cli.commands.attach", "attach", "Follow a run from another terminal."),
    "status": ("sflow_ctl.cli.commands.status", "status", "Show the state of a run and of each task."),
    "logs": ("sflow_ctl.cli.commands.logs", "logs", "Print or follow the logs of tasks."),
    "wait": ("sflow_ctl.cli.looking.wait", "wait", "Wait for a run or tasks, and exit as they did."),
    "events": ("sflow_ctl.cli.looking.events", "events", "Print what has happened in a run, or follow it."),
    "explain": ("sflow_ctl.cli.looking.explain", "explain_", "Say why tasks wait, and why they ended."),
    "top": ("sflow_ctl.cli.looking.top", "top", "Show what live tasks use: CPU, memory, GPUs."),
    "stop": ("sflow_ctl.cli.steering.stop", "stop", "Stop a live run, or tasks of it."),
    "cancel": ("sflow_ctl.cli.steering.cancel", "cancel", "End a live run, or a Slurm job that waits."),
    "exec": ("sflow_ctl.cli.steering.execute", "exec_", "Run a command or a shell beside a task."),
    "restart": ("sflow_ctl.cli.steering.restart", "restart", "Start tasks of a live run again."),
    "retry": ("sflow_ctl.cli.steering.retry", "retry", "Run tasks of a live run again that have ended."),
    "apply": ("sflow_ctl.cli.steering.apply", "apply", "Continue a live run with another workflow."),
    "scale": ("sflow_ctl.cli.steering.scale", "scale", "Give a task of a live run more or fewer replicas."),
    "signal": ("sflow_ctl.cli.steering.signals", "signal_", "Send a signal to tasks of a live run."),
    "pause": ("sflow_ctl.cli.steering.pausing", "pause", "Start nothing new in a live run."),
    "unpause": ("sflow_ctl.cli.steering.pausing", "unpause", "Start tasks of a paused run again."),
    "report": ("sflow_ctl.cli.looking.report", "report", "Make one HTML file about a run, or about two."),
    "export": (
        "sflow_ctl.cli.looking.export",
        "export",
        "Write results of runs for other tools: CSV, MLflow, ...",
    ),
    "index": ("sflow_ctl.cli.looking.index", "index", "Maintain the index of runs."),
    "keys": ("sflow_ctl.cli.handover.keys", "keys", "List tasks with numbers, addresses, keys and states."),
    "outputs": ("sflow_ctl.cli.handover.outputs", "outputs", "List files and values that tasks hand over."),
    "collect": ("sflow_ctl.cli.handover.collect", "collect", "Collect the files of outputs in a directory."),
    "clean": ("sflow_ctl.cli.looking.clean", "clean", "Delete runs that have ended."),
    "bundle": ("sflow_ctl.cli.looking.bundle", "bundle", "Pack a run for a bug report."),
    "doctor": (
        "sflow_ctl.cli.commands.doctor",
        "doctor",
        "Inspect nodes before a run: network, clocks, GPUs, disks.",
    ),
    "compose": ("sflow_ctl.cli.commands.compose", "compose", "Merge workflow files into one."),
    "visualize": ("sflow_ctl.cli.commands.visualize", "visualize", "Draw the graph of a workflow."),
    "sample": ("sflow_ctl.cli.commands.sample", "sample", "List, show or copy example workflows."),
    "skill": ("sflow_ctl.cli.commands.skill", "skill", "Copy the skills for coding agents."),
    "presets": ("sflow_ctl.cli.commands.presets", "presets", "List the ready-made services for `uses:`."),
    "batch": ("sflow_ctl.cli.commands.batch", "batch", "Write Slurm batch scripts and submit them."),
    "config": ("sflow_ctl.cli.commands.config", "config", "Show the effective settings."),
    "schema": ("sflow_ctl.cli.commands.schema", "schema", "Print the JSON Schema of workflow files."),
    "mark": ("sflow_ctl.cli.start.mark", "mark", "Begin or end a window of a task's time, inside the task."),
    "completion": ("sflow_ctl.cli.start.completion", "completion", "Print the completion script of a shell."),
    "help": ("sflow_ctl.cli.app", "help_", "Show the options of a command."),
}
"""Name: module, attribute, help line. A command's module is imported when it is invoked."""


class LazyGroup(click.Group):
    """A group that imports a command's module only for that command: the others cost no time."""

    def list_commands(self, _ctx: click.Context, /) -> list[str]:
        """Return all command names, in the order in which a user meets them."""
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names; a misspelled one is answered with the nearest."""
        if ctx.resilient_parsing:  # a shell asks what may come next
            return super().resolve_command(ctx, args)
        name = args[0]
        _refuse_kubernetes(args)
        if name not in _COMMANDS and not name.startswith("-"):
            from sflow_ctl.format.checking import guess_hint  # only when something is wrong

            hint = guess_hint(name, list(_COMMANDS), f"commands are {', '.join(_COMMANDS)}")
            if name in ("upgrade", "update"):
                hint = "sflow-ctl does not install itself: pip install -U sflow-ctl"
            raise UsageError.of("unknown-command", f'there is no command "{name}"', hint=hint)
        return super().resolve_command(ctx, args)

    def get_command(self, _ctx: click.Context, cmd_name: str, /) -> click.Command | None:
        """Return the command of that name, imported now."""
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        with uncollected():
            command = getattr(importlib.import_module(entry[0]), entry[1])
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str, /) -> "list[CompletionItem]":
        """Return what may come next, without importing any command."""
        from click.shell_completion import CompletionItem  # for shells only

        options = click.Command.shell_complete(self, ctx, incomplete)
        fitting = [name for name in _COMMANDS if name.startswith(incomplete)]
        return [*(CompletionItem(name, help=_COMMANDS[name][2]) for name in fitting), *options]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter, /) -> None:
        """Write the list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in _COMMANDS.items()])


def _refuse_kubernetes(args: list[str]) -> None:
    """Refuse options for clusters that sflow-ctl does not run on. Raises: UsageError."""
    options = args[: args.index("--")] if "--" in args else args
    given = [word.partition("=")[0] for word in options if word.startswith(("--kube", "--extra-kubectl"))]
    if given:
        what = f"{', '.join(dict.fromkeys(given))}: sflow-ctl does not support the Kubernetes backend"
        raise UsageError.of(
            "kubernetes-option", what, hint="leave it out; sflow-ctl runs on this machine and on Slurm"
        )


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from sflow_ctl.version import VERSION

        click.echo(f"sflow-ctl {VERSION}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-V",
    "--version",
    is_flag=True,
    callback=_print_version,
    expose_value=False,
    is_eager=True,
    help="Print the version.",
)
@click.option("--debug", is_flag=True, help="Print tracebacks of errors.")
def group(debug: bool) -> None:
    """Run services and jobs together inside a Slurm allocation, or on this machine."""


@click.command(name="help")
@click.argument("names", metavar="[COMMAND]", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, names: tuple[str, ...]) -> int:
    """Show the commands, or the options of one command."""
    assert ctx.parent is not None
    at, found = ctx.parent, ctx.parent.command
    for name in names:
        if not isinstance(found, click.Group):
            break
        _, command, _ = found.resolve_command(at, [name])
        assert command is not None
        found, at = command, click.Context(command, info_name=name, parent=at)
    print_line(found.get_help(at))
    return 0


def run_command_line() -> int:
    """Run the command that the words of the command line name; return its exit status. Raises: what commands raise."""
    try:
        status = group.main(standalone_mode=False)
    except click.Abort:
        return int(ExitStatus.INTERRUPTED)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)  # it quotes what was typed, or what a script had put there
        print_line(said.getvalue().rstrip("\n"), err=True)
        return int(ExitStatus.USAGE)
    except SystemExit:
        if not type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            raise
        return int(ExitStatus.OK)  # click's own --help, whose reader has left
    return status if isinstance(status, int) else 0

"""`sflow-ctl completion`: the script that makes a shell complete commands, options, run ids and names of tasks."""

import click

from protocol.errors import ExitStatus
from sflow_ctl.cli.terminal.lines import print_document

VARIABLE = "_SFLOW_CTL_COMPLETE"
"""What the script sets, and click looks for."""
_INSTALL = {
    "bash": 'eval "$(sflow-ctl completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(sflow-ctl completion zsh)" in ~/.zshrc',
    "fish": "sflow-ctl completion fish > ~/.config/fish/completions/sflow-ctl.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def completion(shell: str) -> int:
    """Print the script that completes commands, options, run ids and names of tasks with the tab key.

    Its first line says how to install it; in bash: eval "$(sflow-ctl completion bash)" in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    from sflow_ctl.cli.app import group

    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(group, {}, "sflow-ctl", VARIABLE).source()
    print_document(f"# To install: {_INSTALL[shell]}\n{source.rstrip()}\n")
    return int(ExitStatus.OK)

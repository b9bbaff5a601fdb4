"""`patchset completion`: the script that a shell sources."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> int:
    """Print the completion script for SHELL.

    \b
    Examples:
      eval "$(patchset completion bash)"
      patchset completion fish > ~/.config/fish/completions/patchset.fish
    """
    from click.shell_completion import get_completion_class

    from patchset.cli.main import group

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(group, {}, "patchset", "_PATCHSET_COMPLETE").source())
    return 0

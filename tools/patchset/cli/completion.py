"""`patchset completion`: the script that a shell sources."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> int:
    """Print the completion script for SHELL.

    \b
    Examples:
      eval "$(patchset completion bash)"
      patchset completion fish > ~/.config/fish/completions/patchset.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "patchset", "_PATCHSET_COMPLETE").source())
    return 0

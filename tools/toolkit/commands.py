"""Commands that are imported when they run, and errors as exit codes, for all commands of the project."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import click

from toolkit.errors import EnvironmentProblem, PatchsetError

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command runs.

    `package` is the package of the modules; `entries` maps a command's name to its module there and to its
    line in `--help`. The module holds the click command as `<name>_command`, with `_` for `-`. `renamed` maps
    a name that a command had before to where the command is now (`module:attribute`) and to its new command line.
    """

    def __init__(
        self,
        *,
        package: str,
        entries: Mapping[str, tuple[str, str]],
        renamed: Mapping[str, tuple[str, str]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**{"context_settings": _CONTEXT, **settings})
        self.package = package
        self.entries = entries
        self.renamed = renamed or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.renamed:
            place, new_name = self.renamed[cmd_name]
            sys.stderr.write(f"`{ctx.info_name} {cmd_name}` is now `{new_name}`\n")
            module_name, _, attribute = place.partition(":")
            renamed_command: click.Command = getattr(importlib.import_module(module_name), attribute)
            return renamed_command
        if cmd_name not in self.entries:
            return None
        module = importlib.import_module(f"{self.package}.{self.entries[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = {*self.entries, *self.renamed}
        near = get_close_matches(args[0], self.entries, n=1) if args and args[0] not in known else []
        if near and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}'; did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        from click.shell_completion import CompletionItem

        completions = [
            CompletionItem(name, help=text) for name, (_, text) in self.entries.items() if name.startswith(incomplete)
        ]
        return completions + click.Command.shell_complete(self, ctx, incomplete)


# What a file system answers that is read-only, full, or another user's.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def run(group: click.Group, name: str, argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    stdout = sys.stdout
    try:
        result = group.main(args=arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted: nothing is half done, run it again\n")
        return 130
    except PatchsetError as error:
        _show(error, "--json" in arguments)
        return error.exit_code
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        message = f"{error.filename2 or error.filename or 'the output'}: {error.strerror}"
        problem = EnvironmentProblem(message, remedy="see that the disk has room and is writable, then run again")
        _show(problem, "--json" in arguments)
        return problem.exit_code
    except SystemExit:
        # The reader of our output has gone (`| head`): click puts a silent stdout there, and exits with 1.
        if sys.stdout is stdout:
            raise
        return 141
    return result if isinstance(result, int) else 0


def _show(error: PatchsetError, as_json: bool) -> None:
    from toolkit.console import console, escape, print_json

    if as_json:
        print_json(error.as_json())
        return
    out = console(stderr=True)
    out.print(f"[bold red]error:[/] {escape(error.message)}")
    for line in error.details:
        out.print("  " + escape(line).replace("\n", "\n  "))
    if error.remedy:
        out.print(f"[bold]remedy:[/] {escape(error.remedy)}")

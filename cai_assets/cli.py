"""`cai`: the command line. Only the group and how errors end belong here; the commands are in `commands/`."""

import difflib
import sys
from importlib import import_module

import click

GROUPS = {
    "Begin": ("demo", "up", "doctor"),
    "Make": ("backfill", "sweep", "categorise"),
    "Look": ("status", "report", "serve", "export", "metrics", "history"),
    "Look after": ("compact", "erase"),
    "Shell": ("completion",),
}
"""Commands by what they are for, in the order in which a newcomer needs them."""

COMMANDS = tuple(name for names in GROUPS.values() for name in names)

INTERRUPTED = 130  # as shells report a program ended by Ctrl-C


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"cai_assets.commands.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was named; a misspelt one is told with what may have been meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=3)
            mend = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"There is no command {name!r}; {mend}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with a line each, by what they are for."""
        width = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), one.get_short_help_str(100)) for name, one in commands if one]
                )

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; the platform's own errors end it with their message and exit code 1."""
        from cai_assets.failures import CaiError
        from cai_assets.settings import SettingsError

        try:
            return super().invoke(ctx)
        except (CaiError, SettingsError) as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(INTERRUPTED)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  cai demo                     sample conversations, from nothing to reports
  cai status                   what is there
  cai COMMAND --help           all of a command, with examples

Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 stopped by Ctrl-C. Errors are text on standard
error, with --json too.
""",
)
@click.version_option(package_name="cai_assets", prog_name="cai")
def main() -> None:
    """Conversation analytics: NocoDB to MongoDB to Dify to Parquet to reports.

    Settings come from the environment and a .env file (.env.example explains each). What they do not name is
    started on this machine: a database, and a sandbox in place of NocoDB and Dify, with sample conversations.
    """


if __name__ == "__main__":
    sys.exit(main(prog_name="cai"))

"""`cai`: the command line. Only the group and how errors end belong here; the commands are in `commands/`."""

import sys
from importlib import import_module

import click

COMMANDS = (
    "demo",
    "up",
    "backfill",
    "sweep",
    "categorise",
    "status",
    "report",
    "serve",
    "export",
    "metrics",
    "history",
    "compact",
    "erase",
    "doctor",
)

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
    epilog="Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 stopped by Ctrl-C.",
)
@click.version_option(package_name="cai_assets", prog_name="cai")
def main() -> None:
    """Conversation analytics: NocoDB to MongoDB to Dify to Parquet to reports.

    Settings come from the environment and a .env file (.env.example explains each). Without any, an
    embedded stack with sample conversations is started on this machine.
    """


if __name__ == "__main__":
    sys.exit(main())

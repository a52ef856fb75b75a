"""`cai completion`: the lines that let a shell complete commands, options and names."""

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(
    short_help="Let the shell complete commands and names.",
    epilog="""\b
Examples:
  cai completion bash >> ~/.bashrc
  cai completion zsh >> ~/.zshrc
  cai completion fish > ~/.config/fish/completions/cai.fish
  eval "$(cai completion bash)"     in this shell only

bash has to be 4.4 or newer. Exit code 2 for a shell that is none of these.
""",
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what a shell has to read to complete commands, options, tables, metrics and layers."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"there is no completion for {shell}")
    # Not `source()`: for bash it asks the bash of this machine for its version, which need not be the reader.
    script = made(ctx.find_root().command, {}, "cai", "_CAI_COMPLETE")
    click.echo(script.source_template % script.source_vars())

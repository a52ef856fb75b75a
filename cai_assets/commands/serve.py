"""`cai serve`: the reports in a browser, read only, until Ctrl-C."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_assets.commands.common import console, data_option, ending_signals, kept_things, shown_path

if TYPE_CHECKING:
    from rich.console import Console

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ANSWER_SECONDS = 10  # what is under way when it is stopped may take so long


@click.command(
    short_help="The reports in a browser, with all transcripts, until Ctrl-C.",
    epilog="""\b
Examples:
  cai serve                          http://127.0.0.1:8080
  cai serve --port 8090 --data exports/may
  cai serve --host 0.0.0.0           for people who may all read everything

Exit code 1 when the port is taken or nothing was materialised yet, 130 after
Ctrl-C.
""",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; there is no login."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 for any free one."
)
@data_option
def serve(host: str, port: int, data: Path | None) -> None:
    """Serve the dashboard, the reports of days, the exports, and every conversation with its transcript.

    Needs no other server: it reads the lake, on disk or S3, and writes nothing.
    """
    import uvicorn

    from cai_assets.commands.serving import build_app

    out = console()
    with kept_things(data) as (home, settings), ending_signals():
        listening = listen(host, port)
        _say(out, host, listening.getsockname()[1])
        out.print(
            f"  Reads        {shown_path(home.path)}"
            if not settings.s3_enabled
            else f"  Reads        s3://{settings.s3_bucket}"
        )
        out.print("  Ctrl-C stops it.")
        app = build_app(settings, hosts=[*LOOPBACK, "[::1]"] if host in LOOPBACK else None)
        config = uvicorn.Config(
            app,
            log_level="warning",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=ANSWER_SECONDS,
        )
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            listening.close()


def _say(out: "Console", host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    out.print(f"  Reports      [bold cyan]http://{shown}:{port}[/bold cyan]")
    if host not in LOOPBACK:
        out.print(
            "  [yellow]There is no login: whoever reaches this address reads every report and transcript. "
            "Put a proxy with a login and TLS before it.[/yellow]"
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        StackError: the address is none of this machine, or the port is taken or not allowed.
    """
    from cai_assets.stack import StackError

    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise StackError(f"--host {host} is no address: {error.strerror}") from None
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
        made.listen(128)
    except PermissionError:
        made.close()
        raise StackError(
            f"port {port} may not be used by you: choose one above 1023, as --port 8080"
        ) from None
    except OSError as error:
        made.close()
        raise StackError(
            f"port {port} on {host} cannot be listened on ({error.strerror}): stop the other program, or "
            "choose another with --port"
        ) from None
    return made

"""Whether anybody takes connections somewhere, asked before a client that would go on trying for minutes."""

import socket
from urllib.parse import urlsplit

from cai_assets.failures import PermanentError, TransientError

PORTS = {"https": 443, "http": 80, "sc": 15002}  # of addresses that name none; sc is Spark Connect


def reach(url: str, variable: str, timeout_s: float) -> tuple[str, int]:
    """Open a connection to the server of an address, and close it.

    Args:
        url: the address; it may be secret, so no message has more of it than host and port.
        variable: the setting it comes from, for messages.
        timeout_s: seconds to wait.

    Returns:
        Host and port.

    Raises:
        PermanentError: it names no host, or no port that can be one.
        TransientError: nobody takes the connection in time.
    """
    try:
        server = urlsplit(url)
        host, port = server.hostname, server.port or PORTS.get(server.scheme, 80)
    except ValueError:
        raise PermanentError(f"{variable} is no address: its port is no number up to 65535") from None
    if not host:
        raise PermanentError(f"{variable} names no host; write {server.scheme or 'https'}://HOST/...")
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError as error:
        raise TransientError(
            f"nobody answers at {host}:{port} ({variable}): {error.strerror or error}; start it there, "
            "correct the address, or let this machine reach it"
        ) from None
    return host, port

"""How Dify's Service API reads a request and prints an answer: headers, errors, JSON, form parts.

Nothing here knows of runs. Headers, key order and the way JSON is printed are those of 1.14.2's answers.
"""

import email
import email.policy
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from uuid import UUID

from cai_assets.sandbox.faults import Scope, Send, cut
from cai_assets.sandbox.workflows import App

Header = tuple[bytes, bytes]

MAX_USER_CHARACTERS = 255
VERSION: list[Header] = [(b"x-version", b"1.14.2"), (b"x-env", b"PRODUCTION"), (b"vary", b"Cookie")]
COMMON: list[Header] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"X-Env, X-Trace-Id, X-Version"),
    *VERSION,
]
JSON: Header = (b"content-type", b"application/json")
STREAM: Header = (b"content-type", b"text/event-stream; charset=utf-8")
NOT_FOUND_PAGE = (
    b"<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
    b"<p>The requested URL was not found on the server. If you entered the URL manually please check your "
    b"spelling and try again.</p>\n"
)


class RefusedError(Exception):
    """An answer of 4xx with Dify's error body; the exception's text is its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnknownError(Exception):
    """A fault of the request that Dify answers with 500 `unknown`."""


class Connections:
    """Who is connected, so that a restart can break all of it, and for how long nobody is answered."""

    def __init__(self) -> None:
        self._scopes: dict[int, Scope] = {}
        self._down_until = 0.0

    @asynccontextmanager
    async def of(self, scope: Scope) -> AsyncIterator[bool]:
        """Keep a request's connection for as long as it is answered; False: cut, as nobody answers now."""
        if time.monotonic() < self._down_until:
            await cut(scope)
            yield False
            return
        self._scopes[id(scope)] = scope
        try:
            yield True
        finally:
            self._scopes.pop(id(scope), None)

    async def go_down(self, seconds: float) -> None:
        """Break every connection, and answer nobody for so long."""
        self._down_until = time.monotonic() + seconds
        for scope in list(self._scopes.values()):
            await cut(scope)


@dataclass(frozen=True)
class Asked:
    """One request whose key was checked: `app` is the key's."""

    app: App
    method: str
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    body: bytes
    scope: Scope
    send: Send

    def document(self) -> dict[str, Any]:
        """The JSON body, with a user in it."""
        if not self.headers.get(b"content-type", b"").split(b";")[0].strip().endswith(b"json"):
            raise RefusedError(
                415,
                "unsupported_media_type",
                "Did not attempt to load JSON data because the request Content-Type was not "
                "'application/json'.",
            )
        try:
            body = json.loads(self.body)
        except ValueError as error:
            raise RefusedError(
                400,
                "bad_request",
                "The browser (or proxy) sent a request that this server could not understand.",
            ) from error
        if not isinstance(body, dict):
            raise UnknownError
        body["user"] = user_of(body.get("user"))
        return body


def user_of(given: Any) -> str:
    """The caller's `user`, which every run needs; a number is taken as its text.

    Raises:
        RefusedError: there is none.
        UnknownError: it is too long.
    """
    if not given:
        raise RefusedError(400, "invalid_param", "Arg user must be provided.")
    user = str(given)
    if len(user) > MAX_USER_CHARACTERS:
        raise UnknownError
    return user


def is_uuid(text: str) -> bool:
    """Whether Dify would take it for an id."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def multipart(content_type: bytes, body: bytes) -> dict[str, EmailMessage]:
    """The parts of a form by their names; the last of a name wins."""
    message = email.message_from_bytes(
        b"Content-Type: " + content_type + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    parts: dict[str, EmailMessage] = {}
    if isinstance(message, EmailMessage) and message.is_multipart():
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            if isinstance(name, str) and isinstance(part, EmailMessage):
                parts[name] = part
    return parts


async def send_body(send: Send, status: int, body: bytes, headers: list[Header]) -> None:
    """A whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, body: Any) -> None:
    """JSON as Dify's framework prints it: compact, ASCII, slashes escaped, a line break at the end."""
    text = json.dumps(body, separators=(",", ":")).replace("/", "\\/")
    await send_body(send, status, f"{text}\n".encode(), [JSON, *COMMON])


async def send_error(send: Send, refused: RefusedError) -> None:
    """An error body: code, message and status, in this order."""
    body = {"code": refused.code, "message": str(refused), "status": refused.status}
    text = json.dumps(body, separators=(",", ":")).replace("/", "\\/")
    headers = [JSON, *(VERSION if refused.status == 405 else COMMON)]
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="api"'))
    await send_body(send, refused.status, f"{text}\n".encode(), headers)

"""The reports over HTTP, read only: files of the store's reports/, and conversations page by page.

An ASGI application; the command around it is `serve.py`. There is no login here: it listens on the loopback
unless told otherwise, and refuses names of hosts that it was not started for.
"""

import gzip
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cai_assets.domain import pages
from cai_assets.engines.cube import told_apart
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.following import DIMENSIONS, OTHER, View, page_of, transcripts
from cai_assets.failures import CaiError
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

FOLDER = "reports"
PAGE_SIZE = 25
CHUNK = 1 << 20  # bytes
KEPT_PAGES = 8  # pages in memory, compressed ones beside
COMPRESSED_FROM = 1024  # bytes; below, a header costs more than it saves
QUERIES_AT_ONCE = 2

TYPES = {
    "html": "text/html; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# The dashboard's own policy, inside it, names its scripts by their hashes; both must allow what runs.
DASHBOARD_POLICY = f"{POLICY}; script-src 'unsafe-inline'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",
}
# As long as each other, so that only the page knows.
ALONE, SERVED = b'data-conversations="none"', b'data-conversations="page"'


class NotFound(Exception):  # noqa: N818  it is an answer, not a failure
    """There is no such page."""


@dataclass(frozen=True)
class Stored:
    """A file of the reports.

    Attributes:
        path: below reports/, with slashes.
        native: as the store's file system opens it.
        size: bytes.
        written_at: UTC, whole seconds.
    """

    path: str
    native: str
    size: int
    written_at: datetime

    @property
    def kind(self) -> str:
        """What its name ends in."""
        return self.path.rpartition(".")[2].lower()

    @property
    def tag(self) -> str:
        """Changes whenever the file does."""
        known = f"{self.path}|{self.size}|{self.written_at.isoformat()}"
        return hashlib.blake2b(known.encode(), digest_size=12).hexdigest()


class SecurityHeaders:
    """Adds the headers that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with the headers that the answer does not set itself."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                wanted = {**HEADERS, "content-security-policy": POLICY}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in wanted.items() if k.encode() not in given),
                ]
            await send(message)

        await self.app(scope, receive, with_headers)


class Reports:
    """The files and the lake that are served."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = ObjectStore.from_settings(settings)
        self._pages: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._querying = threading.Semaphore(QUERIES_AT_ONCE)

    # -- files

    def find(self, path: str) -> Stored:
        """The file of that path.

        Raises:
            NotFound: there is none, or the path leaves the reports.
        """
        parts = path.split("/")
        if any(
            part in ("", ".", "..") or part.startswith(".") or "\\" in part or "\0" in part for part in parts
        ):
            raise NotFound(path)
        native = self.store.native_path(self.store.location(FOLDER, parts[0], "/".join(parts[1:])))
        native = native.rstrip("/")
        with self.store.errors(f"looking for {FOLDER}/{path}"):
            info = self.store.filesystem().get_file_info(native)
        if not info.is_file:
            raise NotFound(path)
        written = info.mtime.astimezone(UTC).replace(microsecond=0)
        return Stored(path, native, info.size, written)

    def page(self, file: Stored, *, compressed: bool) -> bytes:
        """All bytes of a page or a table, kept for as long as the file does not change."""
        key = (file.tag, "gzip" if compressed else "")
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        if compressed:
            data = gzip.compress(self.page(file, compressed=False), 5, mtime=0)
        else:
            data = b"".join(self.chunks(file, 0, file.size))
            if file.path == "dashboard.html" and self.settings.min_group_size <= 1:
                data = data.replace(ALONE, SERVED, 1)
        with self._lock:
            self._pages[key] = data
            while len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        return data

    def chunks(self, file: Stored, start: int, end: int) -> Iterator[bytes]:
        """The bytes from start to before end."""
        with (
            self.store.errors(f"reading {FOLDER}/{file.path}"),
            self.store.filesystem().open_input_file(file.native) as opened,
        ):
            opened.seek(start)
            left = end - start
            while left > 0 and (data := opened.read(min(CHUNK, left))):
                left -= len(data)
                yield data

    # -- conversations

    def conversations(self, view: View, page: int) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
        """How many there are behind a number, those of a page, and their transcripts."""

        def files(path: tuple[str, str], partitions: Any = None) -> list[str]:
            return LakeTable(self.store, TABLES[path]).files(partitions)

        with (
            self._querying,
            DuckDBEngine.from_settings(self.settings, prepare=self.store.duckdb_setup) as engine,
        ):
            if any(OTHER in values for values in view.chosen.values()):
                view = replace(view, known=told_apart(engine, files))
            total, rows = page_of(engine, files, view, page=page, size=PAGE_SIZE)
            return total, rows, transcripts(engine, files, rows)


def span_of(header: str, size: int) -> tuple[int, int] | None:
    """The one range that a Range header asks for, as start and end (excluded); None for the whole.

    Raises:
        ValueError: it lies outside of the file.
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not found or not (found[1] or found[2]):
        return None
    if found[1]:
        start = int(found[1])
        end = min(int(found[2]) + 1, size) if found[2] else size
    else:
        start, end = max(0, size - int(found[2])), size
    if found[1] and found[2] and int(found[2]) < start:
        return None
    if start >= size or start >= end:
        raise ValueError(header)
    return start, end


def _unchanged(request: Request, tag: str, written_at: datetime) -> bool:
    known = request.headers.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in known.split(",")]
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return written_at <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False  # a date that is none is no condition


def _accepts_gzip(request: Request) -> bool:
    for one in request.headers.get("accept-encoding", "").split(","):
        name, _, weight = one.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return re.sub(r"\s", "", weight) not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _file_response(reports: Reports, request: Request, file: Stored) -> Response:
    texts = file.kind in ("html", "csv", "json")
    compressed = (
        texts and file.size >= COMPRESSED_FROM and _accepts_gzip(request) and "range" not in request.headers
    )
    tag = f'"{file.tag}{"-gz" if compressed else ""}"'
    headers = {
        "etag": tag,
        "last-modified": format_datetime(file.written_at, usegmt=True),
        "accept-ranges": "bytes",
        "content-type": TYPES.get(file.kind, "application/octet-stream"),
    }
    if texts:
        headers["vary"] = "Accept-Encoding"
    if file.path == "dashboard.html":
        headers["content-security-policy"] = DASHBOARD_POLICY
    if _unchanged(request, tag, file.written_at):
        return Response(status_code=304, headers=headers)
    start, end, status = 0, file.size, 200
    asked = request.headers.get("range")
    if asked and request.headers.get("if-range", tag) in (tag, headers["last-modified"]):
        try:
            span = span_of(asked, file.size)
        except ValueError:
            return Response(status_code=416, headers={"content-range": f"bytes */{file.size}"})
        if span:
            start, end, status = *span, 206
            headers["content-range"] = f"bytes {start}-{end - 1}/{file.size}"
    if file.kind == "html" or compressed:
        data = reports.page(file, compressed=compressed)
        if compressed:
            headers["content-encoding"] = "gzip"
            return Response(data, headers=headers)
        return Response(data[start:end], status_code=status, headers=headers)
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(reports.chunks(file, start, end), status_code=status, headers=headers)


def view_of(query: Mapping[str, Any], lists: Callable[[str], list[str]]) -> View:
    """The view that an address asks for, as the dashboard writes it.

    Raises:
        ValueError: a day is none.
    """

    def day(name: str) -> date | None:
        return date.fromisoformat(query[name]) if query.get(name) else None

    return View(
        what=query.get("what") or "conversations",
        detail=query.get("detail"),
        first_day=day("from"),
        last_day=day("to"),
        chosen={name: lists(name) for name in DIMENSIONS if lists(name)},
    )


def _error(status: int, title: str, text: str) -> HTMLResponse:
    return HTMLResponse(pages.message_page(title=title, text=text), status_code=status)


def build_app(settings: Settings, *, hosts: list[str] | None = None) -> Starlette:
    """The application.

    Args:
        settings: where the lake is.
        hosts: names under which it may be asked; None for any.
    """
    reports = Reports(settings)

    def home(_: Request) -> Response:
        return RedirectResponse("dashboard.html")

    def stored(request: Request) -> Response:
        try:
            return _file_response(reports, request, reports.find(request.path_params["path"]))
        except NotFound:
            return missing(request, None)

    def conversations(request: Request) -> Response:
        query = request.query_params
        if settings.min_group_size > 1:
            return _error(
                403,
                "Single conversations are withheld",
                f"Groups of at least {settings.min_group_size} are asked for (MIN_GROUP_SIZE).",
            )
        try:
            view = view_of(query, query.getlist)
            page = max(1, int(query.get("page", "1")))
        except ValueError as error:
            return _error(400, "This address cannot be read", f"{error}; write days as 2024-05-31.")
        total, rows, texts = reports.conversations(view, page)
        rest = [(name, value) for name, value in query.multi_items() if name != "page"]
        last = max(1, -(-total // PAGE_SIZE))
        if page > last or (page > 1 and not rows):
            return _error(
                404, "There is no such page", "This view has fewer conversations; begin with the first page."
            )
        text = pages.conversations_page(
            view=view,
            total=total,
            conversations=rows,
            transcripts=texts,
            page=page,
            last=last,
            address=lambda n: "conversations?" + urlencode([*rest, ("page", str(n))]),
            back="dashboard.html#" + urlencode(rest),
            zone=settings.timezone,
        )
        return HTMLResponse(text)

    def missing(_: Request, __: Exception | None) -> Response:
        return _error(404, "There is no such page", "What was materialised is listed on the dashboard.")

    def failed(_: Request, error: Exception) -> Response:
        return _error(503, "The lake cannot be read", str(error))

    return Starlette(
        routes=[
            Route("/", home),
            Route("/conversations", conversations),
            Route("/{path:path}", stored),
        ],
        middleware=[
            Middleware(SecurityHeaders),
            *([Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)] if hosts else []),
        ],
        exception_handlers={404: missing, CaiError: failed},
    )

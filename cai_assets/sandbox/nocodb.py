"""NocoDB's REST API over the sandbox's tables, as measured on 0.301.3.

Routes, bodies, headers and errors only; rows and filters are store.py's. Covered: v1 and v2 list, count and
single record, v2 insert, update and delete, the meta API an ingester needs, health. Tables and bases answer
to ids alone, and an unknown one is 404 before the token is looked at.
"""

import json
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from cai_assets.sandbox.config import BASE_ID, BASE_TITLE, NOCODB_TOKEN, Dialect
from cai_assets.sandbox.faults import NOCODB_KINDS, Faults, Receive, Rule, Scope, Send
from cai_assets.sandbox.filters import select
from cai_assets.sandbox.store import Table, ValueRefusedError
from cai_assets.sandbox.where import FilterError, parse

DEFAULT_LIMIT = 25
MAX_LIMIT = 1000
# With an API token, per v2 request.
MAX_WRITE_ROWS = 100
# Node's limit of a request's head; the URL is nearly all of it.
MAX_HEAD_BYTES = 16 * 1024


class _RefusedError(Exception):
    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


def _error(status: int, code: str, message: str) -> _RefusedError:
    return _RefusedError(status, {"error": code, "message": message})


def _json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    try:
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # Node writes half characters as escapes
        content = json.dumps(body, separators=(",", ":")).encode()
    return Response(content, status, headers, media_type="application/json; charset=utf-8")


class NocoDB:
    """The NocoDB service: an ASGI application over `tables` (by their titles)."""

    def __init__(self, tables: Mapping[str, Table], faults: Faults, dialect: Dialect) -> None:
        self._tables = {table.id: table for table in tables.values()}
        self._faults = faults
        self._dialect = dialect
        self._seeded = {table.title: len(table.ids) for table in tables.values()}
        v1, v2 = "/api/v1/db/data/{org}/{base}/{table}", "/api/v2/tables/{table}/records"
        routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("/api/v1/health", "GET", self._health),
            ("/api/v1/version", "GET", self._version),
            (v1, "GET", self._list),
            (f"{v1}/count", "GET", self._count),
            (f"{v1}/{{record}}", "GET", self._record),
            (v2, "GET", self._list),
            (v2, "POST", self._insert),
            (v2, "PATCH", self._update),
            (v2, "DELETE", self._delete),
            (f"{v2}/count", "GET", self._count),
            (f"{v2}/{{record}}", "GET", self._record),
            ("/api/v2/meta/bases", "GET", self._bases),
            ("/api/v2/meta/bases/", "GET", self._bases),
            ("/api/v2/meta/bases/{base}/tables", "GET", self._meta_tables),
            ("/api/v2/meta/tables/{table}", "GET", self._meta_table),
        ]
        self._router = Router(
            [Route(path, self._guarded(endpoint), methods=[method]) for path, method, endpoint in routes],
            redirect_slashes=False,
            default=_unknown_route,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        await self._router(scope, receive, send)

    def describe(self) -> dict[str, Any]:
        """Ids, token and sizes, for `/sandbox/info`."""
        return {
            "token": NOCODB_TOKEN,
            "base": {"id": BASE_ID, "title": BASE_TITLE},
            "tables": {
                table.title: {
                    "id": table.id,
                    "seeded_rows": self._seeded[table.title],
                    "rows": len(table.ids),
                    "columns": {column.title: column.uidt for column in table.columns.values()},
                }
                for table in self._tables.values()
            },
        }

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """What is the same for every route: the size of the head, the throttle, and errors as bodies."""

        async def guarded(request: Request) -> Response:
            head = len(request.scope["raw_path"]) + len(request.scope["query_string"])
            head += sum(len(name) + len(value) + 4 for name, value in request.scope["headers"])
            if head > MAX_HEAD_BYTES:
                return Response(status_code=431, headers={"connection": "close"})
            if "health" not in request.url.path and self._faults.throttled():
                body = {"statusCode": 429, "message": "ThrottlerException: Too Many Requests"}
                return _json(429, body)
            started = time.perf_counter()
            try:
                response = await endpoint(request)
            except FilterError as refused:
                response = _json(refused.status, refused.body)
            except _RefusedError as refused:
                response = _json(refused.status, refused.body)
            except ValueRefusedError as refused:
                response = _json(400, {"error": "ERR_DATABASE_OP_FAILED", "message": str(refused)})
            response.headers["xc-db-response"] = f"{(time.perf_counter() - started) * 1000:.0f}"
            return response

        return guarded

    # -- who and what

    def _authenticate(self, request: Request) -> None:
        """xc-token wins over Bearer where both are given, as measured."""
        token = request.headers.get("xc-token")
        if token is None:
            scheme, _, value = request.headers.get("authorization", "").partition(" ")
            token = value.strip() if scheme.lower() == "bearer" else None
        if token != NOCODB_TOKEN:
            raise _error(401, "ERR_AUTHENTICATION_REQUIRED", "Authentication required - Invalid token")

    def _base(self, request: Request) -> None:
        base = request.path_params.get("base", BASE_ID)
        if base != BASE_ID:
            raise _error(404, "ERR_BASE_NOT_FOUND", f"Base '{base}' not found")

    def _table(self, request: Request) -> Table:
        self._base(request)
        table = self._tables.get(request.path_params["table"])
        if table is None:
            raise _error(404, "ERR_TABLE_NOT_FOUND", f"Table '{request.path_params['table']}' not found")
        self._authenticate(request)
        return table

    async def _health(self, request: Request) -> Response:
        return _json(
            200, {"message": "OK", "timestamp": time.time_ns() // 1_000_000, "uptime": time.monotonic()}
        )

    async def _version(self, request: Request) -> Response:
        return _json(200, {"currentVersion": "0.301.3", "releaseVersion": "0.301.3"})

    # -- reading

    async def _list(self, request: Request) -> Response:
        table = self._table(request)
        query = request.query_params
        limit = _positive(query.get("limit"), DEFAULT_LIMIT, 1)
        limit = min(limit, MAX_LIMIT)
        offset = _positive(query.get("offset"), 0, 0)
        titles = self._fields(table, query.get("fields"))
        sort = self._sort(table, query.get("sort"))
        ids = table.order(select(table, parse(query.get("where", ""))), sort)
        total = len(ids)
        if 0 < offset >= total:
            raise _error(422, "ERR_INVALID_OFFSET_VALUE", f"Offset value '{offset}' is invalid")
        page = list(ids[offset : offset + limit])
        info: dict[str, Any] = {"totalRows": total}
        if offset % limit == 0:
            info["page"] = offset // limit + 1
        info |= {"pageSize": limit, "isFirstPage": offset == 0, "isLastPage": offset + limit >= total}
        if offset % limit:
            info["offset"] = offset
        rule = self._faults.draw("nocodb", NOCODB_KINDS, request.url.path) if self._faults.rules else None
        shown = _bent(page, rule, info)
        rows = [table.rows[row_id] for row_id in shown]
        response = _json(200, {"list": _printed(table, titles, rows), "pageInfo": info})
        if rule is not None:
            self._mutate(table, rule, page)
        return _with_etag(request, response)

    async def _count(self, request: Request) -> Response:
        table = self._table(request)
        return _json(200, {"count": len(select(table, parse(request.query_params.get("where", ""))))})

    async def _record(self, request: Request) -> Response:
        table = self._table(request)
        row_id = _existing(table, request.path_params["record"])
        titles = self._fields(table, request.query_params.get("fields"))
        return _json(200, _printed(table, titles, [table.rows[row_id]])[0])

    def _fields(self, table: Table, given: str | None) -> list[str]:
        titles = [title for title in (given or "").split(",") if title]
        for title in titles:
            if title not in table.columns:
                raise _error(404, "ERR_FIELD_NOT_FOUND", f"Field '{title}' not found")
        return titles or list(table.columns)

    def _sort(self, table: Table, given: str | None) -> list[tuple[str, bool]]:
        sort = [(title.lstrip("-+"), title.startswith("-")) for title in (given or "").split(",") if title]
        for title, _ in sort:
            if title not in table.columns:
                raise _error(404, "ERR_FIELD_NOT_FOUND", f"Field '{title}' not found")
        return sort

    # -- writing

    async def _rows_given(self, request: Request) -> tuple[Table, list[dict[str, Any]], bool]:
        table = self._table(request)
        try:
            body = await request.json()
        except ValueError as error:
            raise _RefusedError(400, {"msg": f"Unexpected token in JSON: {error}"}) from error
        rows = body if isinstance(body, list) else [body]
        if not all(isinstance(row, dict) for row in rows):
            raise _RefusedError(400, {"msg": "A record is a JSON object."})
        if len(rows) > MAX_WRITE_ROWS:
            raise _error(
                422,
                "ERR_MAX_PAYLOAD_LIMIT_EXCEEDED",
                f"Max payload limit exceeded: {MAX_WRITE_ROWS} rows a request",
            )
        return table, rows, isinstance(body, list)

    async def _insert(self, request: Request) -> Response:
        table, rows, many = await self._rows_given(request)
        # All cells are made before the first row is inserted: a refused value leaves nothing behind.
        cells = [table.cells(row) for row in rows]
        made = [{"Id": table.insert(each, datetime.now(UTC))} for each in cells]
        return _json(200, made if many else made[0])

    async def _update(self, request: Request) -> Response:
        table, rows, many = await self._rows_given(request)
        changes = [(_existing(table, row.get("Id")), table.cells(row)) for row in rows]
        for row_id, cells in changes:
            table.update(row_id, cells, datetime.now(UTC))
        made = [{"Id": row_id} for row_id, _ in changes]
        return _json(200, made if many else made[0])

    async def _delete(self, request: Request) -> Response:
        table, rows, many = await self._rows_given(request)
        found = [_existing(table, row.get("Id")) for row in rows]
        for row_id in dict.fromkeys(found):
            table.delete(row_id)
        made = [{"Id": row_id} for row_id in found]
        return _json(200, made if many else made[0])

    def _mutate(self, table: Table, rule: Rule, page: Sequence[int]) -> None:
        """What other people do to the table between two pages."""
        now, touched = datetime.now(UTC), page[: rule.rows]
        if rule.kind == "delete_rows":
            for row_id in touched:
                table.delete(row_id)
        elif rule.kind == "update_rows":
            for row_id in touched:
                table.update(row_id, {}, now)
        elif rule.kind == "insert_rows" and page:
            template = table.rows[page[-1]]
            key = table.columns["message_id" if "message_id" in table.columns else "conversation_id"].at
            touched = [
                table.insert(
                    {
                        **{at: cell for at, cell in enumerate(template) if at > 2},
                        key: f"{template[key]}+{number}",
                    },
                    now,
                )
                for number in range(1, rule.rows + 1)
            ]
        self._faults.log.append({"kind": rule.kind, "table": table.title, "ids": list(touched)})

    # -- meta

    async def _bases(self, request: Request) -> Response:
        self._authenticate(request)
        base = {"id": BASE_ID, "title": BASE_TITLE, "type": "database", "status": None, "order": 1}
        return _json(200, _everything([base]))

    async def _meta_tables(self, request: Request) -> Response:
        self._base(request)
        self._authenticate(request)
        return _json(200, _everything([_table_meta(table) for table in self._tables.values()]))

    async def _meta_table(self, request: Request) -> Response:
        table = self._table(request)
        columns = [
            {
                "id": f"c{table.id[1:4]}{column.at:011d}",
                "fk_model_id": table.id,
                "base_id": BASE_ID,
                "title": column.title,
                "column_name": _COLUMN_NAMES.get(column.title, column.title),
                "uidt": column.uidt,
                "pk": column.at == 0,
                "ai": column.at == 0,
                "system": 0 < column.at <= 2,
                "order": column.at + 1,
            }
            for column in table.columns.values()
        ]
        return _json(200, {**_table_meta(table), "columns": columns, "views": []})


_COLUMN_NAMES = {"Id": "id", "CreatedAt": "created_at", "UpdatedAt": "updated_at"}


async def _unknown_route(scope: Scope, receive: Receive, send: Send) -> None:
    parts = scope["path"].split("/")
    if parts[1:2] == ["api"] and parts[2:3] not in ([], ["v1"], ["v2"]):
        response = _json(404, {"error": "INVALID_API_VERSION", "message": f"Invalid API version: {parts[2]}"})
    else:
        response = _json(404, {"msg": f"Cannot {scope['method']} {scope['path']}"})
    await response(scope, receive, send)


def _positive(text: str | None, default: int, least: int) -> int:
    """A number of the query; anything else silently becomes the default, as measured."""
    try:
        number = int(text or "")
    except ValueError:
        return default
    return number if number >= least else default


def _existing(table: Table, given: Any) -> int:
    try:
        row_id = int(given)
    except (TypeError, ValueError):
        row_id = -1
    if row_id not in table.rows:
        raise _error(404, "ERR_RECORD_NOT_FOUND", f"Record '{given}' not found")
    return row_id


def _printed(table: Table, titles: Sequence[str], rows: Iterable[list[Any]]) -> list[dict[str, Any]]:
    places = [table.columns[title].at for title in titles]
    if len(places) == 1:
        return [{titles[0]: row[places[0]]} for row in rows]
    pick = itemgetter(*places)
    return [dict(zip(titles, pick(row), strict=True)) for row in rows]


def _bent(page: list[int], rule: Rule | None, info: dict[str, Any]) -> list[int]:
    """The page as a fault shows it."""
    if rule is None or rule.kind not in ("duplicate_rows", "short_page"):
        return page
    if rule.kind == "duplicate_rows":
        return page + page[-rule.rows :]
    info["isLastPage"] = False
    return page[: -rule.rows]


def _with_etag(request: Request, response: Response) -> Response:
    body = bytes(response.body)
    tag = f'W/"{len(body):x}-{zlib.crc32(body):08x}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"etag": tag})
    response.headers["etag"] = tag
    return response


def _everything(items: list[dict[str, Any]]) -> dict[str, Any]:
    info = {"totalRows": len(items), "page": 1, "pageSize": 25, "isFirstPage": True, "isLastPage": True}
    return {"list": items, "pageInfo": info}


def _table_meta(table: Table) -> dict[str, Any]:
    names = {"id": table.id, "base_id": BASE_ID, "table_name": table.title, "title": table.title}
    return {**names, "type": "table", "enabled": True, "order": 1}

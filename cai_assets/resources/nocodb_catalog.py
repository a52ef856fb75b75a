"""Finding a base, its tables and columns by id or title, and the address of their data. No rows are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cai_assets.resources.nocodb_client import NocoDBAccessError, NocoDBClient, NocoDBMissingError
from cai_assets.resources.source import SourceError, SourceMissingError, SourceTable, map_columns

# By these the platform filters and pages; a text column would be compared letter by letter or refused.
_INSTANTS = {"DateTime", "CreatedTime", "LastModifiedTime"}
_LINKS = {"LinkToAnotherRecord", "Links"}


@dataclass(frozen=True)
class NocoDBTable:
    """One of the two tables as found on the server.

    Attributes:
        declared: what the platform needs of it.
        id: NocoDB's id (m...).
        title: NocoDB's title.
        mapped: our column name to NocoDB's title, of the columns that exist.
        system: those of Id, CreatedAt and UpdatedAt that exist.
        attachments: our names of columns that hold attachments.
        data_path: address of the table's rows, from /api on.
        api: "v1" or "v2".
    """

    declared: SourceTable
    id: str
    title: str
    mapped: Mapping[str, str]
    system: tuple[str, ...]
    attachments: frozenset[str]
    data_path: str
    api: str

    @property
    def origin(self) -> str:
        """The table in words."""
        return f"NocoDB table {self.title!r} ({self.id})"

    @property
    def fields(self) -> str:
        """Value of `fields=`: all that is read, each column once."""
        return ",".join(dict.fromkeys([*self.system, *self.mapped.values()]))


def find_base(client: NocoDBClient, wanted: str) -> str:
    """Id of the base with this id or title.

    Raises:
        SourceMissingError: there is none, or more than one with this title.
    """
    try:
        bases = _listed(client.get("/api/v2/meta/bases/", what="list the bases"), "list the bases")
    except NocoDBAccessError as error:
        # A token may read one base and yet not list all of them; an id needs no list.
        if error.status == 403 and wanted.startswith("p"):
            return wanted
        raise
    return _choose(bases, wanted, "base", "NOCODB_PROJECT_ID", client.base_url)


def find_table(
    client: NocoDBClient, base: str, wanted: str, declared: SourceTable, field_map: Mapping[str, str]
) -> NocoDBTable:
    """The table with this id or title, its columns matched and its data address tried.

    Raises:
        SourceMissingError: no such table or column; the message lists those that exist.
        SourceError: a column's type cannot serve.
    """
    variable = "NOCODB_CONVERSATION_TABLE" if declared.name == "conversations" else "NOCODB_MESSAGES_TABLE"
    base_part = quote(base, safe="")
    what = f"list the tables of base {base!r}"
    tables = _listed(client.get(f"/api/v2/meta/bases/{base_part}/tables", what=what), what)
    table_id = _choose(tables, wanted, "table", variable, f"base {base!r}")
    title = next(str(one.get("title")) for one in tables if one.get("id") == table_id)
    table_part = quote(table_id, safe="")
    meta = client.get(f"/api/v2/meta/tables/{table_part}", what=f"read the columns of table {title!r}")
    columns = meta.get("columns") if isinstance(meta, dict) else None
    if not isinstance(columns, list):
        raise SourceError(f"NocoDB lists no columns of table {title!r}; is its version at least 0.262?")
    kinds = {str(one.get("title")): str(one.get("uidt")) for one in columns}
    origin = f"NocoDB table {title!r} ({table_id})"
    mapped = map_columns(declared, field_map, list(kinds), origin)
    if "Id" not in kinds:
        raise SourceMissingError(
            f"{origin} has no column 'Id' (type ID, auto-numbered), by which rows are paged"
        )
    _check_kinds(declared, mapped, kinds, origin)
    data_path, api = _data_path(client, base_part, table_part, title)
    return NocoDBTable(
        declared=declared,
        id=table_id,
        title=title,
        mapped=mapped,
        system=tuple(name for name in ("Id", "CreatedAt", "UpdatedAt") if name in kinds),
        attachments=frozenset(ours for ours, theirs in mapped.items() if kinds[theirs] == "Attachment"),
        data_path=data_path,
        api=api,
    )


def _listed(answer: Any, what: str) -> list[dict[str, Any]]:
    rows = answer.get("list") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"cannot {what}: NocoDB's answer holds no list; is its version at least 0.262?")
    return rows


def _choose(found: list[dict[str, Any]], wanted: str, kind: str, variable: str, place: str) -> str:
    if any(one.get("id") == wanted for one in found):
        return wanted
    ids = [str(one["id"]) for one in found if one.get("title") == wanted]
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise SourceMissingError(
            f"{variable}={wanted}: {place} has {len(ids)} {kind}s of this title; set the id of one: "
            f"{', '.join(ids)}"
        )
    titles = ", ".join(f"{one.get('title')!r} ({one.get('id')})" for one in found) or "none"
    raise SourceMissingError(
        f"{variable}={wanted}: {place} has no {kind} of this id or title (titles are case-sensitive). "
        f"It has: {titles}"
    )


def _check_kinds(
    declared: SourceTable, mapped: Mapping[str, str], kinds: Mapping[str, str], origin: str
) -> None:
    if declared.name == "conversations":
        theirs = mapped[declared.time_column]
        if kinds[theirs] not in _INSTANTS:
            raise SourceError(
                f"{origin}: column {theirs!r} ({declared.time_column}) is {kinds[theirs]}, and days can only "
                "be selected by a DateTime. Change the column's type, or map another by NOCODB_FIELD_MAP"
            )
    links = [mapped[ours] for ours in declared.required if kinds[mapped[ours]] in _LINKS]
    if links:
        raise SourceError(
            f"{origin}: column(s) {', '.join(links)} are links to records, not values. "
            "Map the columns that hold the ids by NOCODB_FIELD_MAP"
        )


def _data_path(client: NocoDBClient, base: str, table: str, title: str) -> tuple[str, str]:
    """The v1 address where it answers, else the v2 one; their rows are identical."""
    v1, v2 = f"/api/v1/db/data/v1/{base}/{table}", f"/api/v2/tables/{table}/records"
    probe: dict[str, str | int] = {"limit": 1, "fields": "Id"}
    what = f"read table {title!r}"
    try:
        client.get(v1, probe, what=what)
    except NocoDBMissingError as error:
        try:
            client.get(v2, probe, what=what)
        except NocoDBMissingError:
            raise error from None
        return v2, "v2"
    return v1, "v1"

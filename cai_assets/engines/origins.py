"""Where every column comes from, back to the fields of the source: one map from column to columns.

SQL models are followed by `models.column_lineage`. What is no SQL (raw to lake, what Python makes, reports)
is declared here, by name where names are kept. Values alone are followed, and a mere count of rows has no
origin. How it is shown is `metadata`'s.
"""

from collections.abc import Iterator, Mapping
from functools import cache

from cai_assets.engines.models import column_lineage, load_models
from cai_assets.schemas import content, documents, enrichment, lake, marts, raw
from cai_assets.schemas.base import Table
from cai_assets.schemas.documents import LAKE_FIELDS, SOURCE_COLLECTIONS

ColumnOf = tuple[str, str, str]
"""Layer, table, column."""

SOURCE = "nocodb"
WRITTEN = ("CreatedAt", "UpdatedAt")
"""NocoDB's own columns: when a row was made and last changed."""

REPORTED = (marts.VOLUME, marts.RESPONSE, marts.RESOLUTION, marts.CONTAINMENT, marts.LANGUAGE)
"""Marts whose rows `reports/analytics_reports` publishes."""

_TEXT = ("documents", "messages", "text")
_ASKED_ABOUT = ("conversation_id", "message_id")


def _raw(table: Table) -> Iterator[tuple[str, tuple[ColumnOf, ...]]]:
    made, changed = ((SOURCE, table.name, column) for column in WRITTEN)
    yield "id", ((SOURCE, table.name, "Id"),)
    yield "created_at", (made,)
    yield "updated_at", (changed,)
    # `row` holds all fields; a document's columns tell which of them is theirs.


def _documents(table: Table) -> Iterator[tuple[str, tuple[ColumnOf, ...]]]:
    collection = SOURCE_COLLECTIONS[table.name]
    row = ("raw", table.name, "row")
    for column in table.by_name:
        field = collection.key.name if column == "_id" else column
        if field in collection.by_name:
            yield column, ((SOURCE, table.name, field), row)
    yield "partition", (("raw", table.name, "partition"),)
    yield "source_id", (("raw", table.name, "id"),)
    yield "source_updated_at", tuple(("raw", table.name, one) for one in ("created_at", "updated_at"))
    if "text_hash" in table.by_name:
        yield "text_hash", ((SOURCE, table.name, "text"), row)


def _enrichment() -> Iterator[tuple[Table, str, tuple[ColumnOf, ...]]]:
    identity = ("documents", "messages", "_id")
    yield enrichment.LANGUAGES, "_id", (identity,)
    for column in ("language_detected", "language_confidence"):
        yield enrichment.LANGUAGES, column, (_TEXT,)
    yield enrichment.TRANSLATIONS, "message_id", (identity,)
    yield enrichment.TRANSLATIONS, "conversation_id", (("documents", "messages", "conversation_id"),)
    yield enrichment.TRANSLATIONS, "text_hash", (("documents", "messages", "text_hash"),)
    yield enrichment.TRANSLATIONS, "source_language", (("enrichment", "languages", "language_detected"),)
    yield enrichment.TRANSLATIONS, "text", (_TEXT,)
    yield enrichment.CATEGORIES, "conversation_id", (("documents", "conversations", "_id"),)
    for column in ("category", "confidence"):
        yield enrichment.CATEGORIES, column, (_TEXT, ("enrichment", "translations", "text"))


def _lake(table: Table) -> Iterator[tuple[str, tuple[ColumnOf, ...]]]:
    if table.name == "llm_calls":
        for column in _ASKED_ABOUT:
            yield column, (("enrichment", "translations", column),)
        return
    made_by = documents.TABLES if table.name in SOURCE_COLLECTIONS else enrichment.TABLES
    origin = next(one for one in made_by if one.name == table.name)
    for column in table.by_name:
        theirs = LAKE_FIELDS[table.name].get(column, column)
        if theirs in origin.by_name:
            yield column, ((*origin.path, theirs),)
        elif column in enrichment.LANGUAGES.by_name:
            yield column, ((*enrichment.LANGUAGES.path, column),)


def _topics(table: Table) -> Iterator[tuple[str, tuple[ColumnOf, ...]]]:
    said = tuple(("lake", name, "text") for name in ("messages", "translations"))
    for column in ("topic", "place", "label", "term", "weight"):
        if column in table.by_name:
            yield column, said
    for column, theirs in {"report_date": "first_message_date", "month": "first_message_date"}.items():
        if column in table.by_name:
            yield column, (("facts", "fct_conversation", theirs),)
    if "conversation_id" in table.by_name:
        yield "conversation_id", (("facts", "fct_conversation", "conversation_id"),)


def _reports() -> Iterator[tuple[tuple[str, str], str, tuple[ColumnOf, ...]]]:
    for table in REPORTED:
        for column in table.by_name:
            yield ("reports", "analytics_reports"), f"{table.name}.{column}", ((*table.path, column),)
    for column in marts.USER.by_name:
        yield ("reports", "user_analytics"), column, ((*marts.USER.path, column),)


@cache
def made_from() -> Mapping[ColumnOf, tuple[ColumnOf, ...]]:
    """The columns that each column is made of; one that is not in it counts rows, or begins here."""
    found: dict[ColumnOf, tuple[ColumnOf, ...]] = {}
    for tables, follow in ((raw.TABLES, _raw), (documents.TABLES, _documents), (lake.TABLES, _lake)):
        for table in tables:
            found |= {(*table.path, column): sources for column, sources in follow(table)}
    found |= {(*table.path, column): sources for table, column, sources in _enrichment()}
    for path, model in load_models().items():
        found |= {(*path, column): sources for column, sources in column_lineage(model).items() if sources}
    for table in content.TOPICS:
        found |= {(*table.path, column): sources for column, sources in _topics(table)}
    return found | {(*path, column): sources for path, column, sources in _reports()}


def columns_of(path: tuple[str, str]) -> Mapping[str, tuple[ColumnOf, ...]]:
    """Of one table, by column, what it is made of."""
    return {column: sources for (*of, column), sources in made_from().items() if tuple(of) == path}


@cache
def fields_behind(column: ColumnOf) -> tuple[ColumnOf, ...]:
    """The fields of the source that a column's values come from in the end, sorted."""
    if column[0] == SOURCE:
        return (column,)
    return tuple(sorted({end for one in made_from().get(column, ()) for end in fields_behind(one)}))

"""Every column can be followed to the fields of the source it comes from."""

import pytest

from cai_assets.engines.origins import columns_of, fields_behind, made_from
from cai_assets.schemas import documents, enrichment
from cai_assets.schemas.documents import SOURCE_COLLECTIONS
from cai_assets.schemas.tables import TABLES

OF_ASSETS = {**TABLES, **{table.path: table for table in (*documents.TABLES, *enrichment.TABLES)}}


def test_origins_are_columns_that_there_are() -> None:
    for column, sources in made_from().items():
        for layer, table, name in sources:
            if layer == "nocodb":
                known = {*SOURCE_COLLECTIONS[table].by_name, "Id", "CreatedAt", "UpdatedAt"}
            else:
                known = set(OF_ASSETS[layer, table].by_name)
            assert name in known, column


@pytest.mark.parametrize(
    ("column", "fields"),
    [
        (("documents", "messages", "text"), {"messages.text"}),
        (("lake", "messages", "is_private"), {"messages.private"}),
        (("lake", "translations", "text"), {"messages.text"}),
        (("facts", "fct_conversation", "user_id"), {"conversations.user_id"}),
        (("marts", "volume", "channel"), {"conversations.channel"}),
        (("lake", "conversations", "csat_at"), {"conversations.csat_at"}),
        (("reports", "analytics_reports", "volume.user_messages"), {"messages.sender_type"}),
        (("reports", "user_analytics", "user_id"), {"conversations.user_id"}),
    ],
)
def test_a_column_is_followed_back_to_its_fields(column: tuple[str, str, str], fields: set[str]) -> None:
    assert {f"{table}.{name}" for _, table, name in fields_behind(column)} == fields


def test_every_column_of_the_lake_s_conversations_and_messages_has_an_origin() -> None:
    for name in ("conversations", "messages"):
        table = TABLES["lake", name]
        assert set(columns_of(table.path)) == set(table.by_name)

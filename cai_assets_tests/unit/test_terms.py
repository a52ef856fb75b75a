"""What a term is, text by text. Over conversations the tables are held to the oracle in test_analytics."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets_tests.lake_data import Warehouse, lake_rows
from cai_assets_tests.oracle.content import terms

TEXTS = {
    "Where is my Order? My ORDER!": ["where", "is", "my", "order", "my", "order"],
    "L’été d'avant, l'e\u0301te\u0301 'cité'": ["l'été", "d'avant", "l'été", "cité"],
    "Room 12, ab12, 4th, x_y and №": ["room", "and"],
    "I am #NAME# of #CITY_2#, not # or #1 alone": ["i", "am", "of", "not", "or", "alone"],
    "mail me@example.org or see https://example.org/a?b=c, www.example.org or [email] [phone] [sic]": [
        *("mail", "or", "see", "or", "sic"),
    ],
    "営業時間は？": ["営業", "業時", "時間", "間は"],
    "ラーメンAI字": ["ラー", "ーメ", "メン", "ai", "字"],
    "배송 안내": ["배송", "안내"],
    "ขอบคุณ ok": ["ขอ", "อบ", "บค", "คุ", "ุณ", "ok"],
    "नमस्ते दुनिया": ["नमस्ते", "दुनिया"],
    "می‌خواهم مرحبا": ["می\u200cخواهم", "مرحبا"],
    "x" * 41 + " " + "y" * 40: ["y" * 40],
    "": [],
    "?!… 42 --": [],
}


def daily(texts: list[str], folder) -> dict[str, int]:
    """Occurrences of each term over some messages, by the model."""
    at = datetime(2024, 5, 3, tzinfo=UTC)
    conversation = {"conversation_id": "c", "user_id": "u", "status": "open", "started_at": at}
    messages = [
        {
            "message_id": f"m{n}",
            "conversation_id": "c",
            "seq": n,
            "sender_type": "user",
            "sender_id": "u",
            "text": text,
            "created_at": at,
        }
        for n, text in enumerate(texts)
    ]
    warehouse = Warehouse(folder, DuckDBEngine(threads=1))
    warehouse.load(lake_rows([conversation], messages))
    warehouse.run(["facts"])
    return {row["term"]: row["occurrences"] for row in warehouse.rows("facts", "fct_term")}


def counted(parts: list[str]) -> dict[str, int]:
    return {part: parts.count(part) for part in parts}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:20] or "empty")
def test_the_oracle_finds_the_terms_of_a_text(text):
    assert terms(text) == TEXTS[text]


def test_the_model_finds_the_terms_of_the_texts(tmp_path):
    assert daily(list(TEXTS), tmp_path) == counted([term for text in TEXTS.values() for term in text])


LETTERS = st.text(alphabet="aéÉßñжЖعकिु字間はーラハ한국ไทยー'’ _1#@[].:/ \u200c\u0301", max_size=30)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LETTERS, min_size=20, max_size=60))
def test_any_texts_have_the_terms_that_the_oracle_finds(tmp_path_factory, texts):
    found = daily(texts, tmp_path_factory.mktemp("terms"))
    assert found == counted([term for text in texts for term in terms(text)])

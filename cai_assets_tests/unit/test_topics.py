"""Topics: what belongs together is found, in whatever order it comes, also of very few conversations."""

import random
import sys
import types
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from cai_assets.domain import topic_tables
from cai_assets.domain.topic_tables import Placed
from cai_assets.domain.topics import NO_TOPIC, Document, Topics, chosen, learn
from cai_assets.engines import acceleration
from cai_assets.engines.gpu import Device, NoGpu
from cai_assets_tests import oracle
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.lake_data import Warehouse, lake_rows
from cai_assets_tests.unit.test_analytics import check_invariants

WORDS = {
    "delivery": "parcel courier tracking doorstep late shipment address delivered",
    "money": "refund invoice charged payment card bank twice money",
    "配送": "荷物が届かない 配達の追跡番号 住所変更",
}


def themed(each: int = 30) -> tuple[list[Document], dict[str, str]]:
    """Conversations about known themes, of some words each, and the theme of each."""
    chance = random.Random(7)
    documents, theme_of = [], {}
    for theme, words in WORDS.items():
        for n in range(each):
            key = f"{theme}-{n}"
            some = [*chance.choices(words.split(), k=6), "please", "hello"]
            documents.append(Document(key, " ".join(some)))
            theme_of[key] = theme
    return documents, theme_of


def told(topics: Topics, documents: list[Document], **options: int) -> dict[str, tuple[int, float | None]]:
    return {m.conversation_id: (m.topic, m.weight) for m in topics.members(documents, **options)}


def test_conversations_about_one_thing_are_one_topic():
    documents, theme_of = themed()
    topics = learn(documents, 3)
    themes = defaultdict(set)
    for key, (topic, weight) in told(topics, documents).items():
        themes[theme_of[key]].add(topic)
        assert weight is not None
        assert 0 < weight <= 1
    assert sorted(sorted(found) for found in themes.values()) == [[1], [2], [3]]
    for theme, words in WORDS.items():
        named = {term for term, _ in topics.terms[next(iter(themes[theme])) - 1][:3]}
        assert all(any(term in word for word in words.split()) for term in named)


def test_the_order_of_conversations_and_the_size_of_batches_change_nothing():
    documents, _ = themed()
    topics = learn(documents, 5)
    shuffled = random.Random(3).sample(documents, len(documents))
    again = learn(shuffled, 5)
    assert again.terms == topics.terms
    assert told(again, shuffled, batch=7) == told(topics, documents)


def test_topics_are_numbered_by_size():
    documents, _ = themed()
    documents = [d for d in documents if not d.conversation_id.startswith("money-1")]
    sizes = Counter(topic for topic, _ in told(learn(documents, 3), documents).values())
    assert sizes[1] >= sizes[2] >= sizes[3] > 0


@pytest.mark.parametrize(
    ("texts", "topics"),
    [
        ([], 0),
        (["", "42 #NAME#"], 0),
        (["parcel"], 1),
        (["parcel"] * 80, 1),
        (["parcel late", "refund"], 2),
        (["parcel late", "refund", "", "refund"], 2),
    ],
    ids=["none", "no terms", "one", "all alike", "two", "some without terms"],
)
def test_few_conversations_are_no_failure(texts, topics):
    documents = [Document(str(n), text) for n, text in enumerate(texts)]
    found = learn(documents, 12)
    assert len(found.terms) == topics
    for document, (topic, weight) in zip(documents, told(found, documents).values(), strict=True):
        empty = document.text in {"", "42 #NAME#"}
        assert (topic == NO_TOPIC) is empty
        assert (weight is None) is empty
        assert empty or weight == pytest.approx(1)


def test_a_conversation_that_was_not_learnt_from_is_told_too():
    documents, theme_of = themed()
    half = chosen((d.conversation_id for d in documents), most=45)
    assert half == chosen(reversed([d.conversation_id for d in documents]), most=45)
    assert len(half) == 45
    topics = learn([d for d in documents if d.conversation_id in half], 3)
    assert topics.fitted == 45
    themes = defaultdict(set)
    for key, (topic, _) in told(topics, documents).items():
        themes[theme_of[key]].add(topic)
    assert all(len(found) == 1 for found in themes.values())
    assert told(topics, [Document("new", "xylophone")]) == {"new": (NO_TOPIC, None)}


def test_rows_have_places_labels_and_every_week():
    topics = Topics(((("a", 2.0), ("b", 1.0)), (("c", 1.0),)), 3, lambda texts: np.zeros((0, 0)), np.zeros(0))
    day = date(2024, 5, 3)
    placed = [
        Placed("2024-05-03", "x", day, 1, 0.5),
        Placed("2024-05-03", "y", day, 1, 0.5),
        Placed("2024-05-17", "z", day + timedelta(days=14), 1, 0.9),
        Placed("2024-05-03", "empty", day, NO_TOPIC, None),
    ]
    tables = topic_tables.tables(topics, placed)
    assert [tuple(row.values()) for row in tables["marts", "topic"].to_pylist()] == [
        (1, 1, "a, b", "a", 2.0, 3),
        (1, 2, "a, b", "b", 1.0, 3),
        (2, 1, "c", "c", 1.0, 0),
    ]
    places = {
        row["conversation_id"]: row["place"] for row in tables["marts", "topic_conversation"].to_pylist()
    }
    assert places == {"z": 1, "x": 2, "y": 3, "empty": 1}
    weeks = tables["marts", "topic_week"].to_pylist()
    assert len(weeks) == 3 * 3
    assert [(r["conversations"], r["of_week"]) for r in weeks if r["topic"] == 1] == [(2, 3), (0, 0), (1, 1)]
    assert {row["label"] for row in weeks if row["topic"] == NO_TOPIC} == {"no terms"}


def test_texts_are_taken_in_their_newest_translation_and_of_users_alone(tmp_path):
    at = datetime(2024, 5, 3, tzinfo=UTC)
    conversations = [
        {"conversation_id": key, "user_id": "u", "status": "open", "started_at": at, "traffic_class": kind}
        for key, kind in {"one": "live", "two": "live", "silent": "live", "trial": "test"}.items()
    ]
    written = [
        ("one", "user", "Paket"),
        ("one", "user", "danke"),
        ("one", "agent", "invoice"),
        ("two", "user", "courier"),
        ("silent", "bot", "hello"),
        ("trial", "user", "test"),
    ]
    messages = [
        {
            "message_id": f"m{n}",
            "conversation_id": key,
            "seq": n,
            "sender_type": sender,
            "sender_id": "s",
            "text": text,
            "created_at": at,
        }
        for n, (key, sender, text) in enumerate(written)
    ]
    translations = [
        {
            "conversation_id": "one",
            "message_id": "m0",
            "text_hash": "",
            "source_language": "de",
            "target_language": "en",
            "prompt_version": version,
            "status": status,
            "text": text,
        }
        for version, status, text in [("9", "ok", "packet"), ("10", "ok", "parcel"), ("11", "failed", None)]
    ]
    warehouse = Warehouse(tmp_path)
    warehouse.load(lake_rows(conversations, messages, translations=translations))
    warehouse.run(["facts"])
    warehouse.find_topics(2)
    told_of = {row["conversation_id"]: row for row in warehouse.rows("marts", "topic_conversation")}
    assert set(told_of) == {"one", "two", "silent"}
    assert told_of["silent"]["topic"] == NO_TOPIC
    terms = defaultdict(set)
    for row in warehouse.rows("marts", "topic"):
        terms[row["topic"]].add(row["term"])
    assert terms[told_of["one"]["topic"]] == {"parcel", "danke"}
    assert terms[told_of["two"]["topic"]] == {"courier"}


def test_real_conversations_are_grouped_by_what_they_are_about(tmp_path):
    from sklearn.metrics import normalized_mutual_info_score

    conversations, messages = oracle.load(shared_data("star"))
    some = sorted(conversations, key=lambda c: c["conversation_id"])[::4]
    warehouse = Warehouse(tmp_path)
    warehouse.load(lake_rows(some, messages))
    warehouse.run()
    warehouse.find_topics(12)
    check_invariants(warehouse)
    domain = {c["conversation_id"]: c["category_gold"] for c in some}
    pairs = [
        (domain[row["conversation_id"]], row["topic"])
        for row in warehouse.rows("marts", "topic_conversation")
        if domain[row["conversation_id"]] not in (None, "multi")
    ]
    assert len(pairs) > 500
    # Measured: 0.8 to 0.9; by chance it would be near 0.
    assert normalized_mutual_info_score(*zip(*pairs, strict=True)) > 0.7


# -- on a GPU


def test_without_cuml_scikit_learn_computes(monkeypatch):
    monkeypatch.setattr(acceleration, "cuml_is_there", lambda: False)
    assert acceleration.accelerate(True, None) == {"device": "cpu", "device_why": "cuML is not installed"}


def test_cuml_takes_over_where_there_is_a_gpu_and_nobody_forbids_it(monkeypatch):
    installed = []
    module = types.ModuleType("cuml.accel")
    module.install = lambda: installed.append(True)
    monkeypatch.setitem(sys.modules, "cuml", types.ModuleType("cuml"))
    monkeypatch.setitem(sys.modules, "cuml.accel", module)
    monkeypatch.setattr(acceleration, "cuml_is_there", lambda: True)
    monkeypatch.setattr(acceleration, "find_device", lambda *_: Device("gpu", "H100", "the driver shows it"))
    assert acceleration.accelerate(False, None)["device"] == "cpu"
    assert not installed
    assert acceleration.accelerate(None, None) == {"device": "H100", "device_why": "the driver shows it"}
    assert installed

    def none(*_):
        raise NoGpu("no driver")

    monkeypatch.setattr(acceleration, "find_device", none)
    with pytest.raises(NoGpu):
        acceleration.accelerate(True, None)

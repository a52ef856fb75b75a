"""Masked texts, pseudonyms and small groups, from the documents to the Parquet files and the pages."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cai_assets.domain.pseudonyms import pseudonym
from cai_assets.failures import PermanentError
from cai_assets.resources.source import open_source
from cai_assets.resources.sweep import sweep
from cai_assets_tests.erasures import eraser, places_with
from cai_assets_tests.fixtures.lake import ACCESS_KEY, SECRET_KEY, S3Server
from cai_assets_tests.fixtures.platform import Platform, PlatformFactory
from cai_assets_tests.fixtures.sources import write_tables

DAY = "2024-05-01"
START = datetime(2024, 5, 1, 9, tzinfo=UTC)
ALICE, BOB, EVE = "alice@example.com", "user-bob-0002", "user-eve-0003"
SECRETS = (
    "alice.private@mail.example",
    "+49 30 1234567",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
)
HER_TEXT = "my parcel from the blue shop never came, what now?"
SHARED_TEXT = "hello, I need some help with an order please"
SHORT_TEXT = "only alice says"
CONVERSATIONS = {"conv-alice-1": ALICE, "conv-bob-1": BOB, "conv-eve-1": EVE}


def _message(number: int, conversation: str, sender: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "message_id": f"message-{conversation}-{number}",
        "conversation_id": conversation,
        "sender_type": sender,
        "sender_id": CONVERSATIONS.get(conversation, BOB) if sender == "user" else "agent-7",
        "text": text,
        "created_at": START + timedelta(minutes=number),
        "language": "en",
        **more,
    }


def rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Conversations of three; Alice is also in quarantine, among the orphans and in a conversation of Bob."""
    conversations: list[dict[str, Any]] = [
        {
            "conversation_id": key,
            "user_id": user,
            "status": "resolved",
            "started_at": START,
            "ended_at": START + timedelta(hours=1),
            "tags": f'["vip", "{user}"]',
            "csat_comment": f"comment of {user}",
            "channel": "web",
        }
        for key, user in CONVERSATIONS.items()
    ]
    conversations.append({**conversations[0], "conversation_id": "conv-alice-2", "status": "no such status"})
    messages = [
        _message(1, "conv-alice-1", "user", f"write to {SECRETS[0]} or call {SECRETS[1]}"),
        _message(2, "conv-alice-1", "agent", "sure, thank you very much for that"),
        _message(3, "conv-alice-1", "user", HER_TEXT),
        _message(4, "conv-alice-1", "user", SHARED_TEXT),
        _message(5, "conv-alice-1", "user", SHORT_TEXT),
        _message(1, "conv-bob-1", "user", SHARED_TEXT),
        _message(
            2, "conv-bob-1", "agent", f"card {SECRETS[2]} and {SECRETS[3]}, order 2125550187 of 2024-05-01"
        ),
        _message(3, "conv-bob-1", "user", f"did {ALICE} write to you about it?"),
        _message(4, "conv-bob-1", "user", "alice here, I write in the wrong window", sender_id=ALICE),
        _message(1, "conv-eve-1", "user", "good morning from eve, who is not bob"),
        _message(1, "conv-alice-2", "user", "a message whose conversation waits in quarantine"),
        _message(1, "conv-nowhere", "user", "an orphan, but one that alice wrote", sender_id=ALICE),
    ]
    return conversations, messages


@pytest.fixture
def platform(make_platform: PlatformFactory, tmp_path: Path) -> Platform:
    folder = write_tables(tmp_path / "data", *rows())
    return make_platform({"SOURCE": "files", "SOURCE_DIR": str(folder)}, redact_phone_regions="DE")


def test_no_secret_gets_from_the_documents_into_the_lake_or_a_page(platform: Platform) -> None:
    result = platform.run(DAY)
    assert result.success
    texts = set(platform.table("lake", "messages")["text"].to_pylist())
    assert "write to [email] or call [phone]" in texts
    assert "card [card] and [iban], order 2125550187 of 2024-05-01" in texts, "orders and dates stay"
    for secret in (*SECRETS, *(one.replace(" ", "") for one in SECRETS)):
        found = places_with(platform, {secret})
        assert {place.split("/")[0] for place in found} <= {"raw", "mongodb"}, secret
    page = (Path(platform.settings.parquet_base_dir) / f"reports/daily_report/{DAY}.html").read_text()
    assert "write to [email] or call [phone]" in page
    with platform.mongo() as store:
        assert SECRETS[0] in str(list(store.collection("messages").find())), "documents keep the originals"
    made = {
        event.asset_key.path[-1]: event.step_materialization_data.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None and event.asset_key.path[0] == "lake"
    }
    assert made["messages"]["masked_email"].value == 2
    assert made["messages"]["masked_card"].value == made["messages"]["masked_iban"].value == 1
    # User ids stand in clear in raw and MongoDB alone: not in columns, tags, pages, or documents of reports.
    for user in (ALICE, BOB, EVE):
        assert {p.split("/")[0] for p in places_with(platform, {user})} <= {"raw", "mongodb"}
    assert not [where for where in places_with(platform, {BOB}) if "analytics" in where]
    tags = [one for some in platform.table("lake", "conversations")["tags"].to_pylist() for one in some]
    assert pseudonym(BOB, b"a key for tests") in tags


def test_turned_off_texts_stay_as_they_are(make_platform: PlatformFactory, tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "data", *rows())
    platform = make_platform({"SOURCE": "files", "SOURCE_DIR": str(folder)}, redact_text="off")
    assert platform.run(DAY, select="group:raw or group:documents or group:lake").success
    assert (
        f"write to {SECRETS[0]} or call {SECRETS[1]}"
        in platform.table("lake", "messages")["text"].to_pylist()
    )


def test_small_groups_are_withheld_from_what_is_published(
    make_platform: PlatformFactory, tmp_path: Path
) -> None:
    folder = write_tables(tmp_path / "data", *rows())
    source = {"SOURCE": "files", "SOURCE_DIR": str(folder)}
    for least, shown in ((3, True), (4, False)):
        platform = make_platform(source, min_group_size=least)
        assert platform.run(DAY).success
        base = Path(platform.settings.parquet_base_dir)
        pages = [
            (base / "reports" / name).read_text() for name in ("dashboard.html", f"daily_report/{DAY}.html")
        ]
        for page in pages:
            assert ("Withheld: the figures are about fewer than" in page) is not shown
            assert "u_" not in page.split("</style>")[1].split("<script")[0]
            assert HER_TEXT not in page
        copied = {
            path.parts[path.parts.index("marts") + 1]: pq.ParquetFile(path).read().num_rows
            for path in (base / "reports" / "marts").rglob("*.parquet")
        }
        assert copied["user"] == copied["session"] == 0
        assert (copied["containment"] > 0) is shown
        assert platform.table("marts", "user").num_rows == 3, "marts themselves keep every row"
        with platform.mongo() as store:
            documents = list(store.collection("analytics_reports").find({"report": "containment"}))
        assert bool(documents) is shown


def _erase(platform: Platform, user: str = ALICE) -> Any:
    with eraser(platform) as erasing:
        return erasing.erase(erasing.who(user))


def test_erasing_finds_the_person_everywhere_and_tells_mentions_from_leftovers(platform: Platform) -> None:
    assert platform.run(DAY).success
    with platform.mongo() as store, closing(open_source(platform.settings)) as source:
        sweep(source, store, platform.settings.timezone)  # keeps the orphan
        assert store.collection("without_day").count_documents({}) == 1
    receipt = _erase(platform)
    assert receipt.removed["mongodb/conversations"] == 1
    assert receipt.removed["mongodb/messages"] == 6, "five of her conversation, one in Bob's"
    assert receipt.removed["mongodb/quarantine"] == 2
    assert receipt.removed["mongodb/without_day"] == 1
    for text in (HER_TEXT, SHORT_TEXT, "I write in the wrong window", "waits in quarantine", "alice wrote"):
        assert places_with(platform, {text}) == set(), text
    assert places_with(platform, {"conv-alice"}) == set()
    assert places_with(platform, {pseudonym(ALICE, b"a key for tests")}) == set()
    # Bob named her: his text is his, and is told; the shared text stays with Bob.
    assert {place.split("/")[0] for place in places_with(platform, {ALICE})} == {"mongodb", "raw"}
    assert "mongodb/messages/message-conv-bob-1-3" in receipt.proof.mentions
    assert receipt.proof.shared >= 1
    assert SHARED_TEXT in platform.table("lake", "messages")["text"].to_pylist()
    assert all(one.passed for one in platform.check(DAY)), "the equations hold"


def test_nobody_brings_the_person_back_while_the_source_still_holds_them(platform: Platform) -> None:
    assert platform.run(DAY).success
    receipt = _erase(platform)
    assert receipt.source is not None
    assert len(receipt.source["conversations"]) == 2, "the quarantined one too"
    assert len(receipt.source["messages"]) == 7, "five, one in quarantine, one in Bob's conversation"
    result = platform.run(DAY)
    assert result.success
    read = [
        one for one in result.get_asset_check_evaluations() if one.check_name == "every_source_row_was_read"
    ]
    assert {one.asset_key.path[-1]: one.metadata["erased"].value for one in read}["conversations"] == 2
    assert all(one.passed for one in read)
    assert places_with(platform, {HER_TEXT, "conv-alice", pseudonym(ALICE, b"a key for tests")}) == set()
    with platform.mongo() as store, closing(open_source(platform.settings)) as source:
        erased = store.erased(platform.settings.pseudonym_key)
        swept = sweep(source, store, platform.settings.timezone, erased=erased)
        assert not swept.found.reasons, "what is left out is no change"
        assert erased is not None
        wrong_key = platform.settings.model_copy(update={"pseudonym_key": None})
        with pytest.raises(PermanentError, match="PSEUDONYM_KEY"):
            store.erased(wrong_key.pseudonym_key)


# The third is the one with most behind it and most before it.
@pytest.mark.parametrize(
    "step", [3, *(pytest.param(step, marks=pytest.mark.soak) for step in (0, 1, 2, 4, 5))]
)
def test_stopped_at_any_step_it_goes_on_and_ends_the_same(platform: Platform, step: int) -> None:
    assert platform.run(DAY, select="group:raw or group:documents or group:lake").success

    told = 0

    def stop(_: str) -> None:
        nonlocal told
        if told == step:
            raise KeyboardInterrupt
        told += 1

    with eraser(platform, tell=stop) as erasing, pytest.raises(KeyboardInterrupt):
        erasing.erase(erasing.who(ALICE))
    receipt = _erase(platform)
    assert receipt.removed["mongodb/conversations"] == 1
    assert receipt.removed["lake/conversations"] == 1
    assert receipt.days == [DAY]
    assert places_with(platform, {HER_TEXT, SHORT_TEXT, "conv-alice"}) == set()
    again = _erase(platform)
    assert not sum(again.removed.values())


def test_two_erasures_at_once_do_not_meet(platform: Platform) -> None:
    assert platform.run(DAY, select="group:raw or group:documents").success
    seen: list[str] = []

    def second(_: str) -> None:
        if seen:
            return
        seen.append("asked")
        with eraser(platform) as other, pytest.raises(PermanentError, match="another erasure is under way"):
            other.erase(other.who(BOB))

    with eraser(platform, tell=second) as erasing:
        erasing.erase(erasing.who(ALICE))
    assert seen
    _erase(platform, BOB)
    with platform.mongo() as store:
        assert {one["user_id"] for one in store.collection("conversations").find()} == {EVE}


def test_what_is_left_fails_and_is_named(platform: Platform) -> None:
    assert platform.run(DAY, select="group:raw or group:documents").success
    strange = Path(platform.settings.parquet_base_dir) / "exports" / "list.csv"
    strange.parent.mkdir(parents=True)
    strange.write_text(f"user,text\n{ALICE},{HER_TEXT}\n", encoding="utf-8")
    with pytest.raises(PermanentError, match=r"exports/list\.csv: text"):
        _erase(platform)
    strange.unlink()
    assert not _erase(platform).proof.left


def test_a_pseudonym_is_enough(platform: Platform) -> None:
    assert platform.run(DAY, select="group:raw or group:documents or group:lake").success
    hashed = pseudonym(ALICE, b"a key for tests")
    with eraser(platform) as erasing:
        who = erasing.who(hashed, is_pseudonym=True)
        assert who == erasing.who(ALICE)
        with pytest.raises(PermanentError, match="is no pseudonym"):
            erasing.who("alice", is_pseudonym=True)
        assert erasing.look(who).documents["conversations"]


@pytest.mark.soak
def test_it_works_on_s3(make_platform: PlatformFactory, tmp_path: Path, weed: S3Server) -> None:
    folder = write_tables(tmp_path / "data", *rows())
    platform = make_platform(
        {"SOURCE": "files", "SOURCE_DIR": str(folder)},
        s3_enabled=True,
        s3_bucket=weed.bucket(),
        s3_endpoint_url=weed.endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    assert platform.run(DAY, select="group:raw or group:documents or group:lake").success
    receipt = _erase(platform)
    assert receipt.removed["raw/messages"] == 7
    assert receipt.files_deleted > 0
    assert receipt.proof.files > 10
    assert HER_TEXT not in platform.table("lake", "messages")["text"].to_pylist()

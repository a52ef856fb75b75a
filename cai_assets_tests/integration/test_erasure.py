"""A person is erased everywhere, the others stay what they were, and nobody brings the person back."""

import pytest

from cai_assets.domain.erasure import SUMS
from cai_assets.domain.pseudonyms import pseudonym
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.schemas.tables import TABLES
from cai_assets_tests.erasures import eraser, places_with, users
from cai_assets_tests.fixtures.platform import Platform, PlatformFactory

DAYS = ("2025-03-20", "2025-03-21")


@pytest.fixture
def platform(make_platform: PlatformFactory, six_days_sandbox: SandboxProcess) -> Platform:
    made = make_platform(six_days_sandbox)
    assert made.run(*DAYS).success
    return made


def test_a_person_is_erased_everywhere_and_the_others_stay(platform: Platform) -> None:
    with platform.mongo() as store:
        by_user = users(store)
        user = max(sorted(by_user), key=lambda one: len(by_user[one]))
        mine = set(by_user[user])
        texts = {
            one["text"]
            for one in store.collection("messages").find({"conversation_id": {"$in": sorted(mine)}})
            if one["text"]
        }
        others_texts = "\n".join(
            str(one.get("text"))
            for name in ("messages", "translations", "translation_memory")
            for one in store.collection(name).find({"conversation_id": {"$nin": sorted(mine)}})
        )
        own = {one for one in texts if one not in others_texts and len(one) > 8}
        spent = sorted(
            (one["tokens"], str(one["price"]))
            for one in store.collection("llm_calls").find()
            if one["tokens"]
        )
    hashed = pseudonym(user, b"a key for tests")
    before = {
        path: _others(platform, path, mine, hashed) for path in TABLES if path[0] in ("raw", "lake", "facts")
    }
    for one in ({user}, {hashed}, own):
        assert places_with(platform, one)
    with eraser(platform, tell=print) as erasing:
        receipt = erasing.erase(erasing.who(user))
    print(receipt)
    assert places_with(platform, {user, hashed, *mine, *own}) == set()
    assert receipt.removed["mongodb/conversations"] == len(mine)
    assert receipt.removed["lake/conversations"] == len(mine)
    assert receipt.source is not None
    assert len(receipt.source["conversations"]) == len(mine)
    assert not receipt.proof.left
    after = {
        path: _others(platform, path, mine, hashed) for path in TABLES if path[0] in ("raw", "lake", "facts")
    }
    for path, rows in before.items():
        if path not in SUMS | {("lake", "llm_calls"), ("facts", "fct_llm_call")}:
            assert after[path] == rows, path
    with platform.mongo() as store:
        assert spent == sorted(
            (one["tokens"], str(one["price"]))
            for one in store.collection("llm_calls").find()
            if one["tokens"]
        )


def _others(platform: Platform, path: tuple[str, str], mine: set[str], hashed: str) -> list[str]:
    rows = platform.table(*path).to_pylist()
    return sorted(
        repr(row)
        for row in rows
        if row.get("conversation_id") not in mine
        and hashed not in (row.get("user_id"), row.get("sender_id"))
        and not any(f'"{one}"' in row.get("row", "") for one in mine)
    )

"""Streams taken apart: whatever the pieces, the same events; whatever the events, the right end."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.ledger import UNKNOWN, Usage
from cai_assets.resources.dify_errors import (
    InvalidInputError,
    RateLimitedError,
    WorkflowFailedError,
    WorkflowInterruptedError,
    error_of,
    may_pass,
    run_error,
    shown,
)
from cai_assets.resources.dify_events import BrokenStreamError, RunFold, events, run_state

ACCOUNT = {"total_tokens": 27, "total_price": "0.0000072", "currency": "USD"}


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    made, at = [], 0
    for size in sizes:
        made.append(data[at : at + size])
        at += size
    return [piece for piece in [*made, data[at:]] if piece]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    st.lists(st.fixed_dictionaries({"event": TEXT, "text": TEXT}), max_size=5),
    st.lists(st.integers(1, 9), max_size=80),
)
def test_events_are_the_same_in_any_pieces(sent: list[dict[str, str]], sizes: list[int]) -> None:
    lines = ["event: ping\n\n", *(f"data: {json.dumps(one, ensure_ascii=False)}\n\n" for one in sent)]
    assert list(events(pieces("".join(lines).encode(), sizes))) == sent


@pytest.mark.parametrize(
    "line", [b'data: {"event": "workf\n\n', b"data: \xff\xfe\n\n", b"data: [1]\n\n", b"data: 5\n\n"]
)
def test_broken_events_are_told(line: bytes) -> None:
    with pytest.raises(BrokenStreamError):
        list(events([line]))


def test_usage_of_a_node_counts_once_however_often_it_is_told() -> None:
    fold = RunFold()
    node: Mapping[str, Any] = {
        "event": "node_finished",
        "workflow_run_id": "r",
        "task_id": "t",
        "data": {
            "id": "n1",
            "outputs": {"usage": ACCOUNT},
            "process_data": {"usage": ACCOUNT},
            "execution_metadata": ACCOUNT,
        },
    }
    fold.add(node)
    fold.add(node)
    assert fold.node_usage == Usage(27, Decimal("0.0000072"), "USD")
    fold.add({**node, "data": {"id": "n2", "execution_metadata": ACCOUNT}})
    assert fold.node_usage.tokens == 54
    assert (fold.workflow_run_id, fold.task_id, fold.end) == ("r", "t", None)


def test_task_id_of_a_run_attached_to_again_is_kept() -> None:
    fold = RunFold()
    fold.add({"event": "workflow_started", "workflow_run_id": "r", "task_id": "t", "data": {}})
    fold.add(
        {
            "event": "workflow_finished",
            "workflow_run_id": "r",
            "task_id": "r",
            "data": {"status": "succeeded"},
        }
    )
    assert fold.end is not None
    assert (fold.end.task_id, fold.end.outputs) == ("t", {})


@pytest.mark.parametrize(
    ("detail", "usage"),
    [
        ({"total_tokens": 25}, Usage(25)),
        ({"total_tokens": 0}, UNKNOWN),
        ({"total_tokens": 0, "outputs": {"usage": ACCOUNT}}, Usage(27, Decimal("0.0000072"), "USD")),
        ({"total_tokens": 30, "outputs": {"usage": ACCOUNT}}, Usage(30, Decimal("0.0000072"), "USD")),
        ({"total_tokens": 25, "outputs": None}, Usage(25)),
    ],
)
def test_usage_of_a_run_is_its_total_and_the_price_that_somebody_told(
    detail: dict[str, Any], usage: Usage
) -> None:
    assert run_state({"status": "succeeded", **detail}).usage == usage


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Error code: 429 - rate limit reached for requests", True),
        ("[Errno 111] Connection refused", True),
        ("Aborted: Maximum execution time exceeded: 12.49s > 5s", True),
        ("The engine is currently overloaded, please try again later", True),
        ("[OpenAI] Incorrect model credentials provided, please check and try again.", False),
        ("Error code: 429 - insufficient_quota", False),
        ("RuntimeError: boom", False),
        ("Output text is longer than 4290 characters", False),
        ("", False),
    ],
)
def test_texts_of_failed_runs_are_told_apart(text: str, passes: bool) -> None:
    assert may_pass(text) is passes
    assert isinstance(
        run_error("failed", text, None, UNKNOWN), WorkflowInterruptedError if passes else WorkflowFailedError
    )


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b"\xff", b'{"message": null}', b'{"code": 5}']
)
@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 413, 415, 429, 500, 502, 504])
def test_any_body_of_any_status_becomes_an_error_with_its_status(status: int, body: bytes) -> None:
    error = error_of(status, body, "GET /info", "key")
    assert error.status == status
    assert str(status) in str(error)


def test_limit_is_told_by_its_text_and_keeps_the_servers_wish() -> None:
    body = b'{"code":"invalid_param","message":"Too many requests. Please try again later.","status":400}'
    error = error_of(400, body, "POST /workflows/run", retry_after=7.0)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == 7.0
    assert isinstance(error_of(400, body.replace(b"Too many", b"Not many"), "x"), InvalidInputError)


def test_shown_text_is_short_without_secrets_and_quotes() -> None:
    text = shown(
        "a\nb key-1 [type=x, input_value={'t': 'private, [words]'}, input_type=dict]" + "z" * 500, "key-1"
    )
    assert len(text) < 320
    assert "key-1" not in text
    assert "private" not in text

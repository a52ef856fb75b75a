"""The golden values: one data set in 25 numbers."""

from collections.abc import Iterable

from cai_assets_tests.oracle.activity import daily_volume
from cai_assets_tests.oracle.conversations import all_facts, all_waits
from cai_assets_tests.oracle.rows import Row, mean, quantile


def golden(
    conversations: Iterable[Row], messages: Iterable[Row], *, timezone: str = "UTC"
) -> dict[str, int | float | None]:
    """The summary of a data set: counts as int, seconds as float.

    `conversation_days` sums the active conversations of the days, `active_days` counts the days that had any.
    `resolution_*` is from the first message to the last resolve. `waits_unanswered` are waits still open.
    """
    conversations, messages = list(conversations), list(messages)
    facts = list(all_facts(conversations, messages).values())
    waits = all_waits(conversations, messages)
    volume = daily_volume(conversations, messages, timezone)
    response = [f.first_response_s for f in facts]
    human = [f.first_human_response_s for f in facts]
    handoff = [f.human_response_after_handoff_s for f in facts]
    reply = [w.reply_s for w in waits]
    resolved = [f.resolution_last_s for f in facts]
    return {
        "conversations": len(facts),
        "empty_conversations": sum(f.empty for f in facts),
        "conversation_days": sum(day["active"] for day in volume.values()),
        "active_days": len(volume),
        "bot_only": sum(f.bot_only for f in facts),
        "contained": sum(f.contained for f in facts),
        "unanswered": sum(f.unanswered for f in facts),
        "frt_n": _known(response),
        "frt_p50": quantile(response, 0.5),
        "frt_p90": quantile(response, 0.9),
        "frt_avg": mean(response),
        "human_frt_n": _known(human),
        "human_frt_p50": quantile(human, 0.5),
        "human_frt_p90": quantile(human, 0.9),
        "handoff_p50": quantile(handoff, 0.5),
        "handoff_p90": quantile(handoff, 0.9),
        "reply_n": _known(reply),
        "reply_p50": quantile(reply, 0.5),
        "reply_p90": quantile(reply, 0.9),
        "reply_avg": mean(reply),
        "waits_unanswered": sum(w.replied_at is None for w in waits),
        "resolution_n": _known(resolved),
        "resolution_p50": quantile(resolved, 0.5),
        "resolution_p90": quantile(resolved, 0.9),
        "resolution_avg": mean(resolved),
    }


def _known(values: Iterable[float | None]) -> int:
    return sum(v is not None for v in values)

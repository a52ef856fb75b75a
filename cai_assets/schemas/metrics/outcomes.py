"""Metrics of how conversations ended and who dealt with them: bots, people, nobody."""

from cai_assets.schemas.metrics.declaring import Metric, conversations, ratio

_TALKS = "facts.fct_conversation where is_counted"


def _outcome(name: str, title: str, definition: str) -> Metric:
    return conversations(
        f"outcome_{name}",
        title,
        f"{definition} Outcomes exclude each other and sum to the conversations.",
        mart="containment",
        facts=f"select count(*) from {_TALKS} and outcome = '{name}'",
    )


METRICS = (
    conversations(
        "bot_conversations",
        "Conversations with a bot",
        "Conversations in which a bot and the user wrote.",
        mart="containment",
        facts=f"select count(*) from {_TALKS} and bot_messages > 0 and user_messages > 0",
    ),
    conversations(
        "contained",
        "Conversations contained",
        "Conversations in which a bot and the user wrote, no agent did, and which ended resolved.",
        mart="containment",
        facts=f"select count(*) from {_TALKS} and outcome = 'contained'",
        heading="Contained",
    ),
    ratio(
        "containment_rate",
        "Contained by bots",
        "Share of the conversations with a bot that ended resolved without an agent writing.",
        numerator="contained",
        denominator="bot_conversations",
        mart="containment",
    ),
    conversations(
        "handed_off",
        "Conversations handed over",
        "Conversations in which a bot and the user wrote and an agent wrote after a bot; each counts once.",
        mart="containment",
        facts=(f"select count(*) from {_TALKS} and handed_off and bot_messages > 0 and user_messages > 0"),
        heading="Handed over",
    ),
    ratio(
        "handoff_rate",
        "Handed over",
        "Share of the conversations with a bot in which an agent wrote after a bot.",
        numerator="handed_off",
        denominator="bot_conversations",
        mart="containment",
    ),
    conversations(
        "contained_settled",
        "Contained, decided",
        "Contained conversations whose 24 hours are decided: the user came back within them, or they have "
        "passed at as_of.",
        mart="containment",
    ),
    conversations(
        "contained_no_return_24h",
        "Contained without return",
        "Decided contained conversations whose user started nothing else from their start to 24 hours after "
        "their end.",
        mart="containment",
    ),
    ratio(
        "containment_no_return_rate",
        "Contained without return",
        "Share of the decided contained conversations whose user did not come back within 24 hours.",
        numerator="contained_no_return_24h",
        denominator="contained_settled",
        mart="containment",
    ),
    _outcome("empty", "Empty", "Conversations without a counted message."),
    _outcome(
        "unanswered", "Unanswered", "Conversations in which the user wrote, and no bot and no agent did."
    ),
    _outcome(
        "agent_resolved",
        "Resolved by agents",
        "Conversations that ended resolved and are not contained.",
    ),
    _outcome(
        "abandoned",
        "Abandoned",
        "Conversations with the status abandoned; not those that nobody answered.",
    ),
    _outcome("agent_open", "Open with agents", "Conversations still open in which an agent wrote."),
    _outcome("bot_open", "Open with bots", "Conversations still open in which bots wrote and no agent did."),
)

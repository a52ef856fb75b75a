"""Metrics of who of the staff did what: agents and bots, each by their own name."""

from cai_assets.schemas.metrics.declaring import (
    COUNT,
    NUMBER,
    Metric,
    conversations,
    ratio,
    total,
)

_WRITTEN = "facts.stg_messages where is_counted and traffic_class = 'live' and side = 'staff'"
_WHO = "conversation_id, sender_type, coalesce(sender_id, 'unknown')"

METRICS = (
    conversations(
        "agent_conversations",
        "Conversations touched",
        "Conversations by everyone of the staff who wrote in them, on the day of that one's first message: "
        "one with two agents counts for both.",
        mart="agent",
        column="conversations",
        facts=f"select count(*) from (select distinct {_WHO} from {_WRITTEN})",
        heading="Touched",
    ),
    total(
        "agent_conversation_share",
        "Conversations, shared",
        "Conversations touched, each as 1 / the agents (of a bot: the bots) who wrote in it, so that the "
        "sum is the conversations with an agent (a bot). Exact for up to 16 of them in one conversation.",
        unit="conversations",
        sql="select sum(conversation_share) from marts.agent",
        facts=f"select count(*) from (select distinct conversation_id, sender_type from {_WRITTEN})",
        type=NUMBER,
        heading="Shared",
    ),
    conversations(
        "agent_conversations_active",
        "Conversations at work",
        "Conversations in which the one of the staff wrote on the local day; over several days, "
        "conversation-days.",
        mart="agent",
        column="conversations_active",
        facts=f"select count(*) from (select distinct {_WHO}, local_date from {_WRITTEN})",
        heading="At work",
    ),
    conversations(
        "transfers_in",
        "Transfers taken",
        "Times an agent wrote in a conversation in which another agent had been the last to, on the day of "
        "the message.",
        mart="agent",
        unit="transfers",
    ),
    conversations(
        "transfers_out",
        "Transfers given",
        "Times another agent took over the conversation in which this one had been the last agent to write, "
        "on the day of the other's message.",
        mart="agent",
        unit="transfers",
    ),
    conversations(
        "undone",
        "Resolutions undone",
        "Resolved conversations whose last resolve was reopened within 7 days.",
        mart="agent",
        facts=(
            "select count(*) from facts.fct_conversation "
            "where is_counted and not is_empty and resolves > 0 and is_undone"
        ),
        heading="Undone",
    ),
    ratio(
        "undone_rate",
        "Resolutions undone, share",
        "Share of the resolved conversations whose last resolve was reopened within 7 days.",
        numerator="undone",
        denominator="resolved",
        mart="agent",
        columns=("undone", "resolutions"),
    ),
    Metric(
        name="concurrent_max",
        title="Conversations at once",
        definition=(
            "Most conversations of one agent or bot that were open in the same instant; on a local day one "
            "is open from this one's first to last message in it, ends included."
        ),
        unit="conversations",
        sql="select max(concurrent_max) from marts.agent",
        type=COUNT,
        additive=False,
        heading="At once",
    ),
    total(
        "agent_active_s",
        "Time at work",
        "Gaps before the messages that this one of the staff wrote, each at most 300 s.",
        unit="s",
        sql="select sum(active_s) from marts.agent",
        type=NUMBER,
    ),
)

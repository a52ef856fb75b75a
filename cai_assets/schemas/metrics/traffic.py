"""Metrics of how much there was: conversations, messages, turns, users."""

from cai_assets.schemas.metrics.declaring import conversations, distinct, messages

_LIVE = "from facts.fct_conversation where is_counted"
_SPOKEN = "from facts.stg_messages where is_counted and traffic_class = 'live'"

METRICS = (
    conversations(
        "conversations",
        "Conversations",
        "Conversations of live traffic, empty ones (without a counted message) included.",
        mart="containment",
        facts=f"select count(*) {_LIVE}",
    ),
    conversations(
        "conversations_started",
        "Conversations started",
        "Conversations by their first counted message; empty ones are left out.",
        mart="volume",
        facts=f"select count(*) {_LIVE} and not is_empty",
        heading="Started",
    ),
    conversations(
        "conversations_active",
        "Active conversations",
        "Conversations with a counted message on the local day. Over several days: conversation-days.",
        mart="volume",
        facts=f"select count(*) from (select distinct conversation_id, local_date {_SPOKEN})",
        heading="Active",
    ),
    messages(
        "messages",
        "Messages",
        "Counted messages of users, bots and agents: neither private notes nor written by the system.",
        mart="volume",
        facts=f"select count(*) {_SPOKEN}",
    ),
    messages(
        "user_messages",
        "Messages of users",
        "Counted messages that users wrote.",
        mart="volume",
        facts=f"select count(*) {_SPOKEN} and sender_type = 'user'",
        heading="by users",
    ),
    messages(
        "bot_messages",
        "Messages of bots",
        "Counted messages that bots wrote.",
        mart="volume",
        facts=f"select count(*) {_SPOKEN} and sender_type = 'bot'",
        heading="by bots",
    ),
    messages(
        "agent_messages",
        "Messages of agents",
        "Counted messages that agents wrote.",
        mart="volume",
        facts=f"select count(*) {_SPOKEN} and sender_type = 'agent'",
        heading="by agents",
    ),
    conversations(
        "waits",
        "User turns",
        "Runs of the user's messages that no answer interrupts, by the first of them: each is one wait.",
        mart="volume",
        facts="select count(*) from facts.fct_wait where traffic_class = 'live'",
        unit="turns",
    ),
    distinct(
        "users",
        "Users",
        "Distinct users of live conversations, also of those without a counted message.",
        sql=f"select count(distinct user_id) {_LIVE}",
        made_of=("facts.fct_conversation.user_id",),
    ),
    distinct(
        "users_writing",
        "Users who wrote",
        "Distinct users who wrote a counted message. Those of several rows must not be added.",
        sql=f"select count(distinct user_id) {_SPOKEN} and sender_type = 'user'",
        heading="Users",
    ),
)

"""Metrics of how much there was: conversations, messages, turns, users."""

from cai_assets.schemas.metrics.declaring import Metric, conversations, distinct, messages

_LIVE = "from facts.fct_conversation where is_counted"
_SPOKEN = "from facts.stg_messages where is_counted and traffic_class = 'live'"
_LAST_DAY = "(select max(local_date) from facts.fct_traffic)"
_BACKLOG = (
    "select count(*) from facts.fct_conversation as c left join (select conversation_id, "
    "max_by(to_status, event_no) as status from facts.fct_status_event "
    f"where local_date <= {_LAST_DAY} group by conversation_id) as e using (conversation_id) "
    f"where c.is_counted and not c.is_empty and (c.closed_date is null or c.closed_date > {_LAST_DAY}) "
    "and coalesce(e.status, 'open') not in ('resolved', 'abandoned')"
)

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
    Metric(
        "backlog_open",
        "Backlog",
        "Conversations that had begun and were neither resolved nor abandoned at 24:00 of the local day: by "
        "their last change of status, or by status and end where there are none. Days must not be added.",
        "conversations",
        sql=(
            "select sum(backlog_open) from marts.volume "
            "where report_date = (select max(report_date) from marts.volume)"
        ),
        facts_sql=_BACKLOG,
        additive=False,
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

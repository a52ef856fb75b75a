"""Metrics of single users: how often, how recently, how much. Their SQL is over the mart of users."""

from cai_assets.schemas.metrics.declaring import COUNT, Metric, conversations, statistic

_WROTE = "facts.fct_conversation where is_counted and user_messages > 0"


def _quintile(name: str, title: str, definition: str, column: str) -> Metric:
    return Metric(
        name=name,
        title=title,
        definition=f"{definition} Ties are broken by user_id.",
        unit="quintile",
        sql=f"select avg({column}) from marts.user",
        additive=False,
        type=COUNT,
    )


METRICS = (
    conversations(
        "user_days_active",
        "Days active",
        "Local days on which the user wrote.",
        mart="user",
        column="days_active",
        facts="select count(*) from (select distinct user_id, local_date from facts.user_day)",
        unit="days",
        heading="Days",
    ),
    conversations(
        "user_conversations",
        "Conversations of the user",
        "Conversations in which the user wrote.",
        mart="user",
        column="conversations",
        facts=f"select count(*) from {_WROTE}",
        heading="Conversations",
    ),
    conversations(
        "sessions",
        "Sessions",
        "Stretches of the user's messages in which no silence is longer than SESSION_GAP_MINUTES.",
        mart="user",
        unit="sessions",
    ),
    statistic(
        "avg_session_s",
        "Session, mean",
        "Mean time from the first to the last message of the user's sessions.",
        sql="select sum(avg_session_s * sessions) / sum(sessions) from marts.user",
        nullable=False,
    ),
    Metric(
        name="recency_days",
        title="Days since the last message",
        definition="Whole days from the user's last message to as_of, at least 0.",
        unit="days",
        sql="select avg(recency_days) from marts.user",
        additive=False,
    ),
    conversations(
        "frequency_90d",
        "Conversations in 90 days",
        "Conversations the user first wrote in within 90 days before as_of.",
        mart="user",
        facts=f"select count(*) from {_WROTE} and first_user_at_us > $as_of_us - 7776000000000",
    ),
    conversations(
        "monetary",
        "Worth",
        "What the user is worth to the service, in messages.",
        mart="user",
        facts="select sum(messages) from facts.user_day",
        unit="messages",
    ),
    _quintile("recency_quintile", "Recency", "Fifth of the users by last message, 5 the most recent.", "r"),
    _quintile("frequency_quintile", "Frequency", "Fifth of the users by frequency_90d, 5 the most.", "f"),
    _quintile("monetary_quintile", "Worth, fifth", "Fifth of the users by worth, 5 the greatest.", "m"),
)

"""Metrics of users who come, come back and stay."""

from cai_assets.schemas.metrics.declaring import NUMBER, conversations, distinct, ratio, statistic, total

METRICS = (
    conversations(
        "new_users",
        "New users",
        "Distinct users whose first message of all falls into the period.",
        mart="active_users",
        where="grain = 'day'",
        facts="select count(distinct user_id) from facts.user_day",
        unit="users",
        heading="New",
    ),
    distinct(
        "returning_users",
        "Returning users",
        "Distinct users who wrote in the period, and before it. Those of several periods must not be added.",
        sql="select max(returning_users) from marts.active_users where grain = 'week'",
        heading="Returning",
    ),
    distinct(
        "cohort_users",
        "Users of the cohort",
        "Distinct users who first wrote in the cohort's period. The same number stands in every row of the "
        "cohort.",
        sql="select sum(users) from marts.retention where grain = 'week' and k = 0",
        heading="Cohort",
    ),
    distinct(
        "retained_users",
        "Users retained",
        "Distinct users of the cohort who wrote in the k-th period after it.",
        sql="select sum(retained) from marts.retention where grain = 'week' and k = 1",
        heading="Retained",
    ),
    ratio(
        "retention_rate",
        "Retention",
        "Share of the cohort's users who wrote in the k-th period after it.",
        numerator="retained_users",
        denominator="cohort_users",
        mart="retention",
        columns=("retained", "users"),
        where="grain = 'week' and k = 1",
    ),
    total(
        "session_s",
        "Time in sessions",
        "Time from the first to the last message of a session, 0 for a single one.",
        unit="s",
        sql="select sum(duration_s) from marts.session",
        facts="select sum(avg_session_s * sessions) from marts.user",
        type=NUMBER,
    ),
    statistic(
        "gap_p90_days",
        "Usual silence",
        "90th percentile of the days between one local day on which the user wrote and the next, "
        "interpolated linearly; NULL for those who wrote on one day.",
        sql="select avg(gap_p90_days) from marts.user",
        unit="days",
    ),
)

"""Metrics of what users thought of it."""

from cai_assets.schemas.metrics.declaring import NUMBER, Metric, conversations, ratio, statistic, total

_TALKS = "facts.fct_conversation where is_counted and not is_empty"

_POSITIVE = "case when csat_score >= 4 then 1 else 0 end"

METRICS = (
    total(
        "csat_answered",
        "Surveys answered",
        "Conversations whose satisfaction survey was answered.",
        unit="conversations",
        sql="select sum(answered) from marts.csat",
        facts=f"select count(csat_score) from {_TALKS}",
    ),
    total(
        "csat_positive",
        "Surveys positive",
        "Conversations whose satisfaction survey was answered with 4 or 5 points of 5.",
        unit="conversations",
        sql="select sum(positive) from marts.csat",
        facts=f"select sum({_POSITIVE}) from {_TALKS}",
    ),
    conversations(
        "csat_negative",
        "Surveys negative",
        "Conversations whose satisfaction survey was answered with 1 or 2 points of 5.",
        mart="csat",
        column="negative",
        facts=f"select count(*) from {_TALKS} and csat_score <= 2",
    ),
    total(
        "csat_score_sum",
        "Points",
        "Sum of the points of the answered satisfaction surveys; over csat_answered, the mean of any rows.",
        unit="points",
        sql="select sum(score_sum) from marts.csat",
        facts=f"select sum(csat_score) from {_TALKS}",
        type=NUMBER,
        nullable=True,
    ),
    ratio(
        "csat_response_rate",
        "Surveys answered, share",
        "Share of the conversations whose satisfaction survey was answered.",
        numerator="csat_answered",
        denominator="conversations_started",
        mart="csat",
        columns=("answered", "conversations"),
    ),
    Metric(
        name="csat",
        title="Satisfied",
        definition="Share of the answered satisfaction surveys with 4 or 5 points of 5; NULL without one.",
        unit="ratio",
        sql=f"select sum({_POSITIVE}) / nullif(count(csat_score), 0) from {_TALKS}",
        type=NUMBER,
        nullable=True,
        additive=False,
        numerator="csat_positive",
        denominator="csat_answered",
    ),
    statistic(
        "csat_avg",
        "Satisfaction",
        "Mean of the answers to the satisfaction survey, 1 to 5 points.",
        sql=f"select avg(csat_score) from {_TALKS}",
        unit="points",
        made_of=("facts.fct_conversation.csat_score",),
    ),
)

"""Metrics of what users thought of it."""

from cai_assets.schemas.metrics.declaring import NUMBER, Metric, statistic, total

_TALKS = "facts.fct_conversation where is_counted"

_POSITIVE = "case when csat_score >= 4 then 1 else 0 end"

METRICS = (
    total(
        "csat_answered",
        "Surveys answered",
        "Conversations whose satisfaction survey was answered.",
        unit="conversations",
        sql=f"select count(csat_score) from {_TALKS}",
    ),
    total(
        "csat_positive",
        "Surveys positive",
        "Conversations whose satisfaction survey was answered with 4 or 5 points of 5.",
        unit="conversations",
        sql=f"select sum({_POSITIVE}) from {_TALKS}",
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

"""Metrics of what conversations are about. Of one taxonomy version: those of several must not be added."""

from cai_assets.schemas.metrics.declaring import Metric, conversations, ratio, statistic

_DECIDED = (
    "from lake.categories as c inner join facts.fct_conversation as f "
    "on c.partition = f.partition and c.conversation_id = f.conversation_id "
    "where f.is_counted and not f.is_empty"
)


def _by(source: str, who: str) -> Metric:
    return conversations(
        f"categorised_by_{source}",
        f"Categorised by {who}",
        f"Categorised conversations whose category was decided by {who}.",
        mart="category",
        column=f"by_{source}",
        facts=f"select count(*) {_DECIDED} and c.source = '{source}'",
    )


METRICS = (
    conversations(
        "categorised",
        "Conversations of the category",
        "Conversations that a taxonomy version puts into the category; empty ones are left out.",
        mart="category",
        column="conversations",
        facts=f"select count(*) {_DECIDED}",
        heading="Conversations",
    ),
    conversations(
        "categorised_of_week",
        "Conversations categorised in the week",
        "All conversations of the row's week that its taxonomy version categorised. The same number stands "
        "in every row of the week, so it adds up over weeks alone.",
        mart="category",
        column="of_week",
    ),
    ratio(
        "category_share",
        "Share of the week",
        "Share of the week's categorised conversations that are of the category.",
        numerator="categorised",
        denominator="categorised_of_week",
        mart="category",
        columns=("conversations", "of_week"),
    ),
    _by("llm", "the workflow"),
    _by("rule", "keywords"),
    _by("human", "a person"),
    statistic(
        "category_wow_z",
        "Change against the week before",
        "z score of the category's share against that of the week before (two proportions, pooled variance); "
        "NULL without one, or where all or none of both weeks are of the category.",
        sql="select max(abs(wow_z)) from marts.category",
        unit="z",
        heading="z",
    ),
)

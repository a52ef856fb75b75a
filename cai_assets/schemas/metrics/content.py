"""Metrics of what people write about: terms, topics."""

from cai_assets.schemas.metrics.declaring import conversations, distinct, ratio, statistic

METRICS = (
    distinct(
        "term_n_window",
        "Occurrences in the week",
        "Occurrences of the term in the users' messages of the week.",
        sql="select sum(n_window) from marts.terms",
        unit="terms",
        heading="In the week",
    ),
    distinct(
        "term_n_ref",
        "Occurrences in other weeks",
        "Occurrences of the term in the users' messages of all other weeks of the channel and language.",
        sql="select max(n_ref) from marts.terms",
        unit="terms",
        heading="Elsewhere",
    ),
    distinct(
        "terms_of_window",
        "Terms of the week",
        "Occurrences of all terms in the users' messages of the week. The same number stands in every row of "
        "the week, channel and language.",
        sql="select max(window_total) from marts.terms",
        unit="terms",
    ),
    distinct(
        "terms_of_ref",
        "Terms of other weeks",
        "Occurrences of all terms in the users' messages of all other weeks of the channel and language.",
        sql="select max(ref_total) from marts.terms",
        unit="terms",
    ),
    statistic(
        "term_z",
        "Term against other weeks",
        "z score of the difference of the term's log-odds in the week and in all other weeks, with a prior "
        "of 500 terms spread like those of all weeks; positive where the week has more of it.",
        sql="select max(abs(z)) from marts.terms",
        unit="z",
        nullable=False,
        heading="z",
    ),
    conversations(
        "topic_conversations",
        "Conversations of the topic",
        "Conversations whose words are nearest to the topic's.",
        mart="topic_week",
        column="conversations",
        facts="select count(*) from facts.fct_conversation where is_counted and not is_empty",
        heading="Conversations",
    ),
    distinct(
        "topic_of_week",
        "Conversations of the week",
        "All conversations of the row's week. The same number stands in every row of the week.",
        sql="select max(of_week) from marts.topic_week",
        unit="conversations",
    ),
    ratio(
        "topic_share",
        "Share of the week's conversations",
        "Share of the week's conversations that are of the topic.",
        numerator="topic_conversations",
        denominator="topic_of_week",
        mart="topic_week",
        columns=("conversations", "of_week"),
    ),
    statistic(
        "topic_term_weight",
        "How telling a term is",
        "Mean TF-IDF of the term in the topic's conversations, less that in all.",
        sql="select max(weight) from marts.topic",
        unit="weight",
        nullable=False,
    ),
    statistic(
        "topic_nearness",
        "Nearness to the topic",
        "Cosine of the angle between the conversation and the middle of its topic, -1 to 1; NULL where no "
        "term of it is known.",
        sql="select avg(weight) from marts.topic_conversation",
        unit="cosine",
    ),
)

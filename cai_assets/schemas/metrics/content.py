"""Metrics of what people write about: terms, topics."""

from cai_assets.schemas.metrics.declaring import distinct, statistic

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
)

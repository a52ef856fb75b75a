"""What people write about, by the words of it: terms per day, and what sets weeks apart.

Only declarations belong here, of the layers facts and marts; the rules of `schemas.facts` and `schemas.marts`
hold. Texts themselves stand in the lake alone: here are single words, and pairs of characters.
"""

from cai_assets.schemas.base import Column, Table, partition_column
from cai_assets.schemas.columns import COUNT, DATE, TEXT, count
from cai_assets.schemas.mart_columns import CHANNEL, MONTH, report_date
from cai_assets.schemas.metrics import measure

_LANGUAGE = Column("language", TEXT, "Language of the messages (stg_messages.language).")
_TERM = Column(
    "term",
    TEXT,
    "A word in lower case; in scripts without spaces and in Hangul two neighbouring characters. No numbers, "
    "masks, links or addresses.",
)

FCT_TERM = Table(
    layer="facts",
    name="fct_term",
    description=(
        "Terms of the users' live counted messages, per local day of the message, channel and language. "
        "Additive over days and dimensions."
    ),
    columns=(
        partition_column(),
        Column("local_date", DATE, "Local day of the messages."),
        CHANNEL,
        _LANGUAGE,
        _TERM,
        count("messages", "Messages with the term."),
        count("occurrences", "Occurrences of it.", "terms"),
    ),
    key=("local_date", "channel", "language", "term"),
)

TERMS = Table(
    layer="marts",
    name="terms",
    description=(
        "The 50 terms that set an ISO week apart from all other weeks of the same channel and language, by "
        "log-odds with an informative Dirichlet prior; of terms that occur 20 times in all."
    ),
    columns=(
        MONTH,
        report_date("Monday of the week."),
        CHANNEL,
        _LANGUAGE,
        Column("place", COUNT, "Place by the size of z, from 1; equals by name.", "place"),
        _TERM,
        measure("term_n_window", "n_window"),
        measure("term_n_ref", "n_ref"),
        measure("terms_of_window", "window_total"),
        measure("terms_of_ref", "ref_total"),
        measure("term_z", "z"),
    ),
    key=("report_date", "channel", "language", "place"),
    partition_by="month",
)

TABLES = (FCT_TERM, TERMS)

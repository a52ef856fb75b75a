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

_TOPIC = Column(
    "topic",
    COUNT,
    "Number of the topic, from 1 for the one with most conversations; 0 for conversations without a known "
    "term. Learnt anew each time: a number means nothing across versions of the table.",
    "topic",
)
_LABEL = Column("label", TEXT, "Its three most telling terms; `no terms` of topic 0.")

TOPIC = Table(
    layer="marts",
    name="topic",
    description=(
        "What conversations are about, learnt from the users' words (TF-IDF, k-means): the most telling "
        "terms of each of TOPICS topics, in the target language where there are translations."
    ),
    columns=(
        _TOPIC,
        Column("place", COUNT, "Place of the term in the topic, from 1.", "place"),
        _LABEL,
        Column("term", TEXT, _TERM.description),
        measure("topic_term_weight", "weight"),
        measure("topic_conversations", "conversations", note="The same in every row of the topic."),
    ),
    key=("topic", "place"),
    partition_by=None,
)

TOPIC_CONVERSATION = Table(
    layer="marts",
    name="topic_conversation",
    description=(
        "The topic of each live conversation with a counted message. The first places of a topic are its "
        "examples."
    ),
    columns=(
        MONTH,
        report_date("Local day of the conversation's first counted message."),
        partition_column(),
        Column("conversation_id", TEXT, "The conversation."),
        _TOPIC,
        Column("place", COUNT, "Place in the topic by weight, from 1; equals by conversation_id.", "place"),
        measure("topic_nearness", "weight"),
    ),
    key=("partition", "conversation_id"),
    partition_by="month",
)

TOPIC_WEEK = Table(
    layer="marts",
    name="topic_week",
    description=(
        "Conversations per ISO week and topic; a row of zeros for every week between the first and the last "
        "and every topic."
    ),
    columns=(
        MONTH,
        report_date("Monday of the week of the conversation's first counted message."),
        _TOPIC,
        _LABEL,
        measure("topic_conversations", "conversations"),
        measure("topic_of_week", "of_week"),
    ),
    key=("report_date", "topic"),
    partition_by="month",
)

TOPICS = (TOPIC, TOPIC_CONVERSATION, TOPIC_WEEK)
"""Made together by a Python asset, not by SQL."""

TABLES = (FCT_TERM, TERMS, *TOPICS)

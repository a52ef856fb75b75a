"""Facts of time: waits, response clocks, changes of status. The rules of `facts` hold here too."""

from cai_assets.schemas.base import Column, Table, partition_column
from cai_assets.schemas.columns import (
    CHANNEL,
    COUNT,
    DATE,
    LANGUAGE,
    TEXT,
    TRAFFIC,
    business,
    business_seconds,
    count,
    instant,
    seconds,
)

REPLIER_TYPES = ("bot", "agent")
CLOCKS = ("first", "first_human", "after_handoff", "reply")
HOURS = ("calendar", "business")

FCT_STATUS_EVENT = Table(
    layer="facts",
    name="fct_status_event",
    description="One row per change of a conversation's status, as the source tells it.",
    columns=(
        partition_column(),
        Column("conversation_id", TEXT, "The conversation."),
        count(
            "event_no", "Place in order of time, from 1; of one instant, as the source lists them.", "place"
        ),
        instant("at_us", "When it happened."),
        business("business_us", "The same in business time."),
        Column("local_date", DATE, "Its local day."),
        Column("from_status", TEXT, "Status before, in the source's word.", nullable=True),
        Column("to_status", TEXT, "Status after, in the source's word."),
        Column("actor", TEXT, "Who did it, where the source says.", nullable=True),
        count("resolve_no", "Resolves up to this event, itself included.", "events"),
        TRAFFIC,
    ),
    key=("conversation_id", "event_no"),
)

FCT_WAIT = Table(
    layer="facts",
    name="fct_wait",
    description="One row per user turn, and its answer. It belongs to the local day on which it began.",
    columns=(
        partition_column(),
        Column("conversation_id", TEXT, "The conversation."),
        count("turn_no", "Place among the user's turns, from 1.", "place"),
        Column("user_id", TEXT, "The user (keyed hash)."),
        instant("waiting_since_us", "First message of the turn."),
        business("waiting_since_business_us", "The same in business time."),
        Column("local_date", DATE, "Its local day."),
        Column("local_hour", COUNT, "Its local hour, 0 to 23.", "h"),
        Column("local_isodow", COUNT, "Its local day of the week, 1 (Monday) to 7.", "weekday"),
        instant(
            "replied_at_us", "First message of the staff turn that follows; NULL while open.", nullable=True
        ),
        business("replied_business_us", "The same in business time."),
        Column("replier_id", TEXT, "Who wrote it.", nullable=True),
        Column("replier_type", TEXT, "Bot or agent.", nullable=True, values=REPLIER_TYPES),
        seconds("reply_s", "From waiting_since_us to replied_at_us."),
        business_seconds("reply_bh_s", "reply_s in business time."),
        instant(
            "human_replied_at_us", "First agent message within that same staff turn, if any.", nullable=True
        ),
        seconds("human_reply_s", "From waiting_since_us to human_replied_at_us."),
        CHANNEL,
        LANGUAGE,
        TRAFFIC,
    ),
    key=("conversation_id", "turn_no"),
)

FCT_RESPONSE = Table(
    layer="facts",
    name="fct_response",
    description=(
        "One row per response clock that ran, in calendar and in business time. It belongs to the local day "
        "on which it started."
    ),
    columns=(
        partition_column(),
        Column("conversation_id", TEXT, "The conversation."),
        Column(
            "clock",
            TEXT,
            "first: the user's first message to the first answer of bot or agent; first_human: to the first "
            "of an agent, unless a bot answered and no agent ever did; after_handoff: hand-off to the first "
            "of an agent; reply: every user turn to its answer.",
            values=CLOCKS,
        ),
        count("turn_no", "Of reply: fct_wait.turn_no; else 1.", "place"),
        Column("report_date", DATE, "Local day on which it started."),
        instant("since_us", "When it started."),
        instant("stopped_us", "When it stopped; NULL while it runs.", nullable=True),
        business("since_business_us", "since_us in business time."),
        business("stopped_business_us", "stopped_us in business time."),
        CHANNEL,
        LANGUAGE,
        TRAFFIC,
    ),
    key=("conversation_id", "clock", "turn_no"),
)

"""What the numbers must be: every metric computed a second time, in plain Python, row by row.

Here belong the definitions of the metrics written as loops over rows, with neither SQL nor data frames, so
that the SQL models can be held against something that shares no code and no idiom with them. What does not
belong here: reading from the platform, and tests (`unit/test_oracle.py`, and beside the models).

Rows are dicts. `conversations` have `conversation_id, user_id, status, started_at, ended_at, status_events,
traffic_class, channel, language …`; `messages` have `message_id, conversation_id, seq, sender_type,
sender_id, created_at, updated_at, private, deleted_at`. Optional keys may be missing. Instants are
`datetime`s with a time zone; durations are float seconds; `status_events` is a list or JSON text of
`{from, to, at, actor}`
(the lake's spellings `from_status`, `to_status` and `is_private` are understood too).

Modules: `rows` (which messages count, order, arithmetic), `conversations` (facts and waits), `activity`
(sessions, users, traffic), `summary` (the golden values), whose public names are exported here; `marts` and
`enrichment` (what the marts hold).

How to use it::

    from cai_assets_tests import oracle

    conversations, messages = oracle.load(folder)            # conversations.parquet, messages.parquet
    facts = oracle.all_facts(conversations, messages)        # {conversation_id: ConversationFacts}
    waits = oracle.all_waits(conversations, messages)        # [Wait], one per user turn, in order
    oracle.golden(conversations, messages)                   # the 25 summary values of a data set
    oracle.sessions(...), user_days(...), users(...), hourly_traffic(...), daily_volume(...), outcomes(...)

Rules that hold everywhere:

* A message given several times counts once, its version with the greatest `updated_at` (one without it is the
  oldest). Deleted messages, private notes and messages of the `system` do not count: they start and stop no
  clock. What is left is called *counted*.
* The order inside a conversation is `(created_at, seq, message_id)`.
* A *turn* is a run of counted messages of one side; sides are the user and the staff (bots and agents).
* A duration whose end lies before its start, or has no end, is None; never 0, never negative.
* Percentiles are interpolated linearly between the closest ranks (SQL's `percentile_cont`).
* A local day or hour is that of the instant in the IANA zone at that instant.
* Test and internal traffic is *not* left out here: hand in `live(conversations)` where only users count.
  Messages of conversations that were not handed in are ignored.
"""

from cai_assets_tests.oracle.activity import (
    SESSION_GAP,
    Session,
    User,
    UserDay,
    daily_volume,
    hourly_traffic,
    sessions,
    user_days,
    users,
)
from cai_assets_tests.oracle.conversations import (
    IDLE_CAP,
    OUTCOMES,
    REOPEN_WINDOW,
    ConversationFacts,
    Resolution,
    Wait,
    all_facts,
    all_waits,
    conversation_facts,
    conversation_waits,
    outcomes,
    resolution,
    status_events,
    turns,
)
from cai_assets_tests.oracle.rows import (
    Row,
    by_conversation,
    counted,
    live,
    load,
    local_day,
    mean,
    quantile,
    seconds,
)
from cai_assets_tests.oracle.summary import golden

__all__ = [
    "IDLE_CAP",
    "OUTCOMES",
    "REOPEN_WINDOW",
    "SESSION_GAP",
    "ConversationFacts",
    "Resolution",
    "Row",
    "Session",
    "User",
    "UserDay",
    "Wait",
    "all_facts",
    "all_waits",
    "by_conversation",
    "conversation_facts",
    "conversation_waits",
    "counted",
    "daily_volume",
    "golden",
    "hourly_traffic",
    "live",
    "load",
    "local_day",
    "mean",
    "outcomes",
    "quantile",
    "resolution",
    "seconds",
    "sessions",
    "status_events",
    "turns",
    "user_days",
    "users",
]

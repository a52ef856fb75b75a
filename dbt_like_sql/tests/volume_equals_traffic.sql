-- A channel and language whose volume over all days is not its traffic, or whose days have gaps.
with volume_total as (
    select
        channel,
        language,
        cast(sum(conversations_started) as bigint) as conversations_started,
        cast(sum(conversations_active) as bigint) as conversations_active,
        cast(sum(messages) as bigint) as messages,
        cast(sum(waits) as bigint) as waits,
        count(*) as days,
        date_diff('day', min(report_date), max(report_date)) + 1 as span
    from marts.volume
    group by channel, language
),

traffic_total as (
    select
        channel,
        language,
        cast(sum(conversations_started) as bigint) as conversations_started,
        cast(sum(conversations_active) as bigint) as conversations_active,
        cast(sum(user_messages + bot_messages + agent_messages) as bigint) as messages,
        cast(sum(waits) as bigint) as waits
    from facts.fct_traffic
    group by channel, language
)

select
    coalesce(v.channel, t.channel) as channel,
    coalesce(v.language, t.language) as language,
    v.messages,
    t.messages as traffic_messages,
    v.conversations_active,
    t.conversations_active as traffic_active,
    v.days,
    v.span
from volume_total as v
full outer join traffic_total as t on v.channel = t.channel and v.language = t.language
where
    v.conversations_started is distinct from t.conversations_started
    or v.conversations_active is distinct from t.conversations_active
    or v.messages is distinct from t.messages
    or v.waits is distinct from t.waits
    or v.days <> v.span

-- A month, channel and language whose heatmap does not add up to its traffic and waits, or that has an hour
-- that never was, or more replies than waits.
with heat as (
    select
        month,
        channel,
        language,
        cast(sum(messages) as bigint) as messages,
        cast(sum(user_messages) as bigint) as user_messages,
        cast(sum(conversations) as bigint) as conversations,
        cast(sum(waits) as bigint) as waits,
        cast(sum(reply_n) as bigint) as replies,
        sum(case when reply_n > waits or hours <= 0 or user_messages > messages then 1 else 0 end) as broken
    from marts.heatmap
    group by month, channel, language
),

traffic as (
    select
        strftime(local_date, '%Y-%m') as month,
        channel,
        language,
        cast(sum(user_messages + bot_messages + agent_messages) as bigint) as messages,
        cast(sum(user_messages) as bigint) as user_messages,
        cast(sum(conversations_started) as bigint) as conversations,
        cast(sum(waits) as bigint) as waits
    from facts.fct_traffic
    group by strftime(local_date, '%Y-%m'), channel, language
),

answered as (
    select
        strftime(local_date, '%Y-%m') as month,
        channel,
        language,
        count(reply_s) as replies
    from facts.fct_wait
    where traffic_class = 'live'
    group by strftime(local_date, '%Y-%m'), channel, language
)

select
    coalesce(h.month, t.month) as month,
    coalesce(h.channel, t.channel) as channel,
    coalesce(h.language, t.language) as language,
    h.messages as heatmap_messages,
    t.messages,
    h.waits as heatmap_waits,
    t.waits
from traffic as t
full outer join heat as h on t.month = h.month and t.channel = h.channel and t.language = h.language
left join answered as a on t.month = a.month and t.channel = a.channel and t.language = a.language
where
    coalesce(h.messages, 0) <> coalesce(t.messages, 0)
    or coalesce(h.user_messages, 0) <> coalesce(t.user_messages, 0)
    or coalesce(h.conversations, 0) <> coalesce(t.conversations, 0)
    or coalesce(h.waits, 0) <> coalesce(t.waits, 0)
    or coalesce(h.replies, 0) <> coalesce(a.replies, 0)
    or h.broken > 0

-- A partition whose hourly traffic does not add up to its live conversations.
with conversation_total as (
    select
        partition,
        cast(sum(user_messages) as bigint) as user_messages,
        cast(sum(bot_messages) as bigint) as bot_messages,
        cast(sum(agent_messages) as bigint) as agent_messages,
        cast(sum(case when is_empty then 0 else 1 end) as bigint) as conversations_started,
        cast(sum(user_turns) as bigint) as waits
    from facts.fct_conversation
    where is_counted
    group by partition
),

traffic_total as (
    select
        partition,
        cast(sum(user_messages) as bigint) as user_messages,
        cast(sum(bot_messages) as bigint) as bot_messages,
        cast(sum(agent_messages) as bigint) as agent_messages,
        cast(sum(conversations_started) as bigint) as conversations_started,
        cast(sum(conversations_active) as bigint) as conversations_active,
        cast(sum(waits) as bigint) as waits
    from facts.fct_traffic
    group by partition
)

select
    coalesce(c.partition, t.partition) as partition,
    c.conversations_started as conversations,
    t.conversations_started,
    t.conversations_active,
    c.user_messages + c.bot_messages + c.agent_messages as messages,
    t.user_messages + t.bot_messages + t.agent_messages as traffic,
    c.waits,
    t.waits as traffic_waits
from conversation_total as c
full outer join traffic_total as t on c.partition = t.partition
where
    coalesce(c.user_messages, 0) <> coalesce(t.user_messages, 0)
    or coalesce(c.bot_messages, 0) <> coalesce(t.bot_messages, 0)
    or coalesce(c.agent_messages, 0) <> coalesce(t.agent_messages, 0)
    or coalesce(c.conversations_started, 0) <> coalesce(t.conversations_started, 0)
    or coalesce(c.waits, 0) <> coalesce(t.waits, 0)
    or t.conversations_active < t.conversations_started

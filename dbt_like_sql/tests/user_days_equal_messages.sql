-- A user and local day whose stretches do not add up to the user's live messages, or that overlap themselves.
with message_total as (
    select
        partition,
        user_id,
        local_date,
        count(*) as messages,
        count(distinct conversation_id) as conversations
    from facts.stg_messages
    where is_counted and sender_type = 'user' and traffic_class = 'live'
    group by partition, user_id, local_date
),

stretch_total as (
    select
        partition,
        user_id,
        local_date,
        cast(sum(messages) as bigint) as messages,
        cast(sum(conversations) as bigint) as conversations,
        min(ended_us - started_us) as shortest_us
    from facts.user_day
    group by partition, user_id, local_date
)

select
    coalesce(m.partition, s.partition) as partition,
    coalesce(m.user_id, s.user_id) as user_id,
    coalesce(m.local_date, s.local_date) as local_date,
    m.messages,
    s.messages as stretch_messages,
    m.conversations,
    s.conversations as stretch_conversations
from message_total as m
full outer join stretch_total as s
    on m.partition = s.partition and m.user_id = s.user_id and m.local_date = s.local_date
where
    m.messages is distinct from s.messages
    or m.conversations is distinct from s.conversations
    or s.shortest_us < 0

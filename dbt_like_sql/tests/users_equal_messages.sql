-- A user without a row, or whose row does not add up to the user's live messages and conversations.
with fact_total as (
    select
        user_id,
        cast(sum(user_messages) as bigint) as messages,
        count(*) as conversations
    from facts.fct_conversation
    where is_counted and user_messages > 0
    group by user_id
)

select
    coalesce(f.user_id, m.user_id) as user_id,
    f.messages,
    m.messages as mart_messages,
    f.conversations,
    m.conversations as mart_conversations,
    m.sessions,
    m.days_active
from fact_total as f
full outer join marts.user as m on f.user_id = m.user_id
where
    f.messages is distinct from m.messages
    or f.conversations is distinct from m.conversations
    or m.sessions > m.messages
    or m.days_active > m.messages
    or m.sessions < 1
    or m.last_seen < m.first_seen
    or m.avg_session_s < 0
    or m.frequency_90d > m.conversations
    or m.r not between 1 and 5
    or m.f not between 1 and 5
    or m.m not between 1 and 5

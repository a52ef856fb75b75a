-- Agents per local day, channel, language and category. Conversations in which an agent wrote, and those whose last
-- resolve an event ascribes to an agent (bots resolve too), count on the day of the conversation's first message;
-- messages on their own day.
with spoken as (
    select
        m.partition,
        m.conversation_id,
        m.local_date,
        coalesce(m.sender_id, 'unknown') as agent,
        count(*) as messages
    from facts.stg_messages as m
    where m.is_counted and m.traffic_class = 'live' and m.sender_type = 'agent'
    group by m.partition, m.conversation_id, m.local_date, coalesce(m.sender_id, 'unknown')
),

touched as (
    select distinct
        partition,
        conversation_id,
        agent
    from spoken
),

counted as (
    select
        f.first_message_date as report_date,
        f.channel,
        f.language,
        coalesce(f.category, 'not categorised') as category,
        t.agent,
        1 as conversations,
        0 as agent_messages,
        0 as resolved
    from touched as t
    inner join facts.fct_conversation as f
        on t.partition = f.partition and t.conversation_id = f.conversation_id
    union all
    select
        s.local_date as report_date,
        f.channel,
        f.language,
        coalesce(f.category, 'not categorised') as category,
        s.agent,
        0 as conversations,
        s.messages as agent_messages,
        0 as resolved
    from spoken as s
    inner join facts.fct_conversation as f
        on s.partition = f.partition and s.conversation_id = f.conversation_id
    union all
    select
        f.first_message_date as report_date,
        f.channel,
        f.language,
        coalesce(f.category, 'not categorised') as category,
        a.agent,
        0 as conversations,
        0 as agent_messages,
        1 as resolved
    from facts.fct_conversation as f
    inner join (select distinct agent from touched) as a on f.last_resolved_by = a.agent
    where f.is_counted and not f.is_empty and f.resolves > 0
)

select
    report_date,
    channel,
    language,
    category,
    agent,
    cast(sum(conversations) as bigint) as conversations,
    cast(sum(agent_messages) as bigint) as agent_messages,
    cast(sum(resolved) as bigint) as resolved
from counted
group by report_date, channel, language, category, agent

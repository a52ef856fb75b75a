-- Agents per local day, channel, language and category, as marts.agent counts them: a conversation on the
-- day of the agent's first message in it, messages on their own day, resolves on the day of the
-- conversation's first counted message, each for whom its event names, else for the last agent who wrote;
-- the conversation is resolved by the last of them.
with spoken as (
    select
        m.partition,
        m.conversation_id,
        m.local_date,
        coalesce(m.sender_id, 'unknown') as agent,
        row_number() over (
            partition by m.partition, m.conversation_id, coalesce(m.sender_id, 'unknown')
            order by m.message_no
        ) as place
    from facts.stg_messages as m
    where m.is_counted and m.traffic_class = 'live' and m.sender_type = 'agent'
),

person as (
    select agent
    from spoken
    union
    select agent_id as agent
    from facts.fct_conversation
    where is_counted and agent_id is not null
),

-- where the source keeps no events, a resolved conversation is one resolve by nobody that is named
credited as (
    select
        f.first_message_date as report_date,
        f.channel,
        f.language,
        coalesce(f.category, 'not categorised') as category,
        coalesce(r.resolve_no = f.resolves, true) as is_last,
        case
            when p.agent is not null then p.agent
            when r.actor is null and f.agent_messages > 0 then coalesce(f.last_agent_id, 'unknown')
        end as agent
    from facts.fct_conversation as f
    left join facts.fct_status_event as r
        on f.partition = r.partition and f.conversation_id = r.conversation_id and r.to_status = 'resolved'
    left join person as p on r.actor = p.agent
    where f.is_counted and not f.is_empty and f.resolves > 0
),

counted as (
    select
        s.local_date as report_date,
        f.channel,
        f.language,
        coalesce(f.category, 'not categorised') as category,
        s.agent,
        case when s.place = 1 then 1 else 0 end as conversations,
        1 as agent_messages,
        0 as resolved,
        0 as resolution_events
    from spoken as s
    inner join facts.fct_conversation as f
        on s.partition = f.partition and s.conversation_id = f.conversation_id
    union all
    select
        report_date,
        channel,
        language,
        category,
        agent,
        0 as conversations,
        0 as agent_messages,
        case when is_last then 1 else 0 end as resolved,
        1 as resolution_events
    from credited
    where agent is not null
)

select
    report_date,
    channel,
    language,
    category,
    agent,
    cast(sum(conversations) as bigint) as agent_conversations,
    cast(sum(agent_messages) as bigint) as agent_messages,
    cast(sum(resolved) as bigint) as resolved,
    cast(sum(resolution_events) as bigint) as resolution_events
from counted
group by report_date, channel, language, category, agent

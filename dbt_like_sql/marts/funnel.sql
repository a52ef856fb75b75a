-- How far conversations came, per ISO week (its Monday) of the first counted message, channel, language,
-- category and entry. Every step counts those of the step before that took this one too: numbers only fall.
-- Entry `bot`: a bot wrote, and no agent answered the user before one did; `direct`: the others, which pass
-- bot_answered and handed_off, as there was no bot to pass. What bots resolved without handing over leaves
-- after bot_answered and is counted beside the steps, as contained. A hand-off is a status event from pending
-- to open, or an agent's answer after the bot's. Durability is decided 7 days (604800000000 us) after the
-- last resolve, at $as_of_us.
with answer as (
    select
        m.partition,
        m.conversation_id,
        min(case when m.sender_type = 'bot' then m.message_no end) as first_bot_no,
        min(case when m.sender_type = 'agent' then m.message_no end) as first_agent_no
    from facts.stg_messages as m
    inner join facts.fct_conversation as c
        on m.partition = c.partition and m.conversation_id = c.conversation_id
    where m.is_counted and m.side = 'staff' and m.created_us >= c.first_user_at_us
    group by m.partition, m.conversation_id
),

handoff as (
    select distinct
        partition,
        conversation_id
    from facts.fct_status_event
    where from_status = 'pending' and to_status = 'open'
),

conversation as (
    select
        cast(date_trunc('week', c.first_message_date) as date) as report_date,
        c.channel,
        c.language,
        coalesce(c.category, 'uncategorised') as category,
        c.bot_messages > 0
        and (a.first_agent_no is null or coalesce(a.first_bot_no < a.first_agent_no, false)) as has_bot,
        a.first_bot_no is not null as bot_answered,
        a.first_agent_no is not null as agent_answered,
        a.first_agent_no is not null or h.conversation_id is not null as handed_off,
        c.resolves > 0 as is_resolved,
        c.resolves > 0 and not c.is_undone as is_standing,
        coalesce($as_of_us - c.last_resolved_us > 604800000000, false) as is_past,
        c.csat_score is not null as has_score
    from facts.fct_conversation as c
    left join answer as a on c.partition = a.partition and c.conversation_id = a.conversation_id
    left join handoff as h on c.partition = h.partition and c.conversation_id = h.conversation_id
    where c.is_counted and not c.is_empty
),

judged as (
    select
        report_date,
        channel,
        language,
        category,
        case when has_bot then 'bot' else 'direct' end as entry,
        not has_bot or bot_answered as at_bot,
        not has_bot or (bot_answered and handed_off) as at_handoff,
        agent_answered and (not has_bot or bot_answered) as at_agent,
        has_bot and bot_answered and not handed_off and is_resolved as is_contained,
        is_resolved,
        is_standing and is_past as is_durable,
        is_standing and not is_past as is_undecided,
        is_standing and is_past and has_score as is_scored
    from conversation
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    category,
    entry,
    count(*) as started,
    cast(sum(case when at_bot then 1 else 0 end) as bigint) as bot_answered,
    cast(sum(case when at_handoff then 1 else 0 end) as bigint) as handed_off,
    cast(sum(case when at_agent then 1 else 0 end) as bigint) as agent_answered,
    cast(sum(case when at_agent and is_resolved then 1 else 0 end) as bigint) as resolved,
    cast(sum(case when at_agent and is_durable then 1 else 0 end) as bigint) as durable,
    cast(sum(case when at_agent and is_scored then 1 else 0 end) as bigint) as csat_answered,
    cast(sum(case when (at_agent or is_contained) and is_undecided then 1 else 0 end) as bigint) as undecided,
    cast(sum(case when is_contained then 1 else 0 end) as bigint) as contained,
    cast(sum(case when is_contained and is_durable then 1 else 0 end) as bigint) as contained_durable,
    cast(sum(case when is_contained and is_scored then 1 else 0 end) as bigint) as contained_csat_answered
from judged
group by report_date, channel, language, category, entry

-- What a number on a page is made of: one row per conversation, what it counts under, a detail of that (as
-- the outcome, or the agent) and the local day on which it does. Every number leads to its conversations by
-- this.
select
    partition,
    conversation_id,
    first_message_date as report_date,
    'conversations' as what,
    '' as detail
from facts.fct_conversation
where is_counted
union all
select
    partition,
    conversation_id,
    first_message_date as report_date,
    'outcome' as what,
    outcome as detail
from facts.fct_conversation
where is_counted
union all
select
    partition,
    conversation_id,
    first_message_date as report_date,
    'resolved' as what,
    coalesce(last_resolved_by, case when agent_messages > 0 then coalesce(last_agent_id, 'unknown') end, '')
        as detail
from facts.fct_conversation
where is_counted and not is_empty and resolves > 0
union all
select distinct
    c.partition,
    c.conversation_id,
    c.first_message_date as report_date,
    'resolves' as what,
    coalesce(e.actor, case when c.agent_messages > 0 then coalesce(c.last_agent_id, 'unknown') end, '')
        as detail
from facts.fct_conversation as c
left join facts.fct_status_event as e
    on c.partition = e.partition and c.conversation_id = e.conversation_id and e.to_status = 'resolved'
where c.is_counted and not c.is_empty and c.resolves > 0
union all
select
    partition,
    conversation_id,
    first_message_date as report_date,
    'reopened' as what,
    '' as detail
from facts.fct_conversation
where is_counted and not is_empty and reopens > 0
union all
select
    partition,
    conversation_id,
    first_message_date as report_date,
    'bot' as what,
    case when handed_off then 'handed_off' else 'kept' end as detail
from facts.fct_conversation
where is_counted and bot_messages > 0 and user_messages > 0
union all
select
    partition,
    conversation_id,
    first_message_date as report_date,
    'csat' as what,
    case when csat_score >= 4 then 'positive' else 'other' end as detail
from facts.fct_conversation
where is_counted and csat_score is not null
union all
select
    partition,
    conversation_id,
    first_user_date as report_date,
    'clock_first' as what,
    case when first_any_at_us is null then 'open' else 'stopped' end as detail
from facts.fct_conversation
where is_counted and first_user_at_us is not null
union all
select
    partition,
    conversation_id,
    first_user_date as report_date,
    'clock_first_human' as what,
    case when first_human_at_us is null then 'open' else 'stopped' end as detail
from facts.fct_conversation
where
    is_counted and first_user_at_us is not null
    and (first_human_at_us is not null or first_any_at_us is null)
union all
select
    partition,
    conversation_id,
    handoff_date as report_date,
    'clock_after_handoff' as what,
    case when first_human_at_us is null then 'open' else 'stopped' end as detail
from facts.fct_conversation
where is_counted and handoff_at_us is not null
union all
select distinct
    partition,
    conversation_id,
    local_date as report_date,
    'clock_reply' as what,
    case when replied_at_us is null then 'open' else 'stopped' end as detail
from facts.fct_wait
where traffic_class = 'live'
union all
select distinct
    partition,
    conversation_id,
    local_date as report_date,
    'messages' as what,
    sender_type as detail
from facts.stg_messages
where is_counted and traffic_class = 'live'
union all
select distinct
    partition,
    conversation_id,
    local_date as report_date,
    'hour' as what,
    cast(local_isodow as varchar) || '-' || cast(local_hour as varchar) as detail
from facts.stg_messages
where is_counted and traffic_class = 'live' and sender_type = 'user'
union all
select distinct
    partition,
    conversation_id,
    local_date as report_date,
    'agent' as what,
    coalesce(sender_id, 'unknown') as detail
from facts.stg_messages
where is_counted and traffic_class = 'live' and sender_type = 'agent'
union all
select distinct
    partition,
    conversation_id,
    local_date as report_date,
    'spoken' as what,
    language as detail
from facts.stg_messages
where is_counted and traffic_class = 'live'
union all
select distinct
    partition,
    conversation_id,
    local_date as report_date,
    'translation_' || translation_status as what,
    language as detail
from facts.stg_messages
where is_counted and traffic_class = 'live' and translation_status is not null
union all
select distinct
    c.partition,
    c.conversation_id,
    f.first_message_date as report_date,
    'model' as what,
    coalesce(c.model, 'unknown') as detail
from facts.fct_llm_call as c
inner join facts.fct_conversation as f
    on c.partition = f.partition and c.conversation_id = f.conversation_id

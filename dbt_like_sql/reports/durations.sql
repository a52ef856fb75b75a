-- Durations of live conversations in seconds, one row each: response clocks by the local day on which they started
-- (replies with the agent who gave them, 'nobody' for bots), resolutions by that of the first counted message. NULL
-- where the clock was not stopped.
select
    first_user_date as report_date,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    'first' as clock,
    'nobody' as replier,
    first_response_s as duration_s
from facts.fct_conversation
where is_counted
union all
select
    first_user_date as report_date,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    'first_human' as clock,
    'nobody' as replier,
    first_human_response_s as duration_s
from facts.fct_conversation
where is_counted
union all
select
    handoff_date as report_date,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    'after_handoff' as clock,
    'nobody' as replier,
    human_response_after_handoff_s as duration_s
from facts.fct_conversation
where is_counted
union all
select
    first_message_date as report_date,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    'resolution_first' as clock,
    'nobody' as replier,
    resolution_first_s as duration_s
from facts.fct_conversation
where is_counted
union all
select
    first_message_date as report_date,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    'resolution_last' as clock,
    'nobody' as replier,
    resolution_last_s as duration_s
from facts.fct_conversation
where is_counted
union all
select
    w.local_date as report_date,
    w.channel,
    w.language,
    coalesce(f.category, 'not categorised') as category,
    'reply' as clock,
    case when w.replier_type = 'agent' then coalesce(w.replier_id, 'unknown') else 'nobody' end as replier,
    w.reply_s as duration_s
from facts.fct_wait as w
inner join facts.fct_conversation as f
    on w.partition = f.partition and w.conversation_id = f.conversation_id
where w.traffic_class = 'live'

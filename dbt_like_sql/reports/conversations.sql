-- One row per live conversation of the facts it is given, in order of its start; durations in seconds.
select
    conversation_id,
    user_id,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    outcome,
    started_us,
    messages,
    first_response_s,
    resolution_last_s,
    csat_score
from facts.fct_conversation
where is_counted
order by started_us, conversation_id

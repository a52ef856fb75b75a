-- One row per live conversation of the facts it is given, the newest first: what a page lists. Durations in
-- seconds.
select
    partition,
    conversation_id,
    user_id,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    outcome,
    started_us,
    messages,
    first_response_s
from facts.fct_conversation
where is_counted
order by started_us desc, conversation_id asc

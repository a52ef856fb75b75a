-- One row per response clock that ran, in calendar and in business time. Marts sum it, and their readers
-- come from it to the conversations behind a number. Instants in microseconds (UTC), business time in open
-- microseconds; a clock that nobody stopped has no stop.
select
    partition,
    conversation_id,
    'first' as clock,
    cast(1 as bigint) as turn_no,
    first_user_date as report_date,
    first_user_at_us as since_us,
    first_any_at_us as stopped_us,
    first_user_business_us as since_business_us,
    first_any_business_us as stopped_business_us,
    channel,
    language,
    traffic_class
from facts.fct_conversation
where first_user_at_us is not null
union all
select
    partition,
    conversation_id,
    'first_human' as clock,
    cast(1 as bigint) as turn_no,
    first_user_date as report_date,
    first_user_at_us as since_us,
    first_human_at_us as stopped_us,
    first_user_business_us as since_business_us,
    first_human_business_us as stopped_business_us,
    channel,
    language,
    traffic_class
from facts.fct_conversation
where
    first_user_at_us is not null
    -- one that a bot answered and no agent took does not wait for a person
    and (first_human_at_us is not null or first_any_at_us is null)
union all
select
    partition,
    conversation_id,
    'after_handoff' as clock,
    cast(1 as bigint) as turn_no,
    handoff_date as report_date,
    handoff_at_us as since_us,
    first_human_at_us as stopped_us,
    handoff_business_us as since_business_us,
    first_human_business_us as stopped_business_us,
    channel,
    language,
    traffic_class
from facts.fct_conversation
where handoff_at_us is not null
union all
select
    partition,
    conversation_id,
    'reply' as clock,
    turn_no,
    local_date as report_date,
    waiting_since_us as since_us,
    replied_at_us as stopped_us,
    waiting_since_business_us as since_business_us,
    replied_business_us as stopped_business_us,
    channel,
    language,
    traffic_class
from facts.fct_wait

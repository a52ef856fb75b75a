-- A conversation with a duration below zero (it must be NULL where its end precedes its start), or with more
-- business time than time.
with duration as (
    select
        partition,
        conversation_id,
        'first response' as duration,
        first_response_s as calendar_s,
        first_response_bh_s as business_s
    from facts.fct_conversation
    union all
    select
        partition,
        conversation_id,
        'first human response' as duration,
        first_human_response_s as calendar_s,
        first_human_response_bh_s as business_s
    from facts.fct_conversation
    union all
    select
        partition,
        conversation_id,
        'human response after hand-off' as duration,
        human_response_after_handoff_s as calendar_s,
        human_response_after_handoff_bh_s as business_s
    from facts.fct_conversation
    union all
    select
        partition,
        conversation_id,
        'first resolution' as duration,
        resolution_first_s as calendar_s,
        resolution_first_bh_s as business_s
    from facts.fct_conversation
    union all
    select
        partition,
        conversation_id,
        'last resolution' as duration,
        resolution_last_s as calendar_s,
        resolution_last_bh_s as business_s
    from facts.fct_conversation
    union all
    select
        partition,
        conversation_id,
        'active' as duration,
        active_s as calendar_s,
        null as business_s
    from facts.fct_conversation
)

select
    partition,
    conversation_id,
    duration,
    calendar_s,
    business_s
from duration
where
    calendar_s < 0
    or business_s < 0
    -- both are rounded once
    or business_s > calendar_s + 1e-6
    or (business_s is not null and calendar_s is null)

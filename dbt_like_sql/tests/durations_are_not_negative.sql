-- A conversation with a duration below zero: it must be NULL where its end precedes its start.
select
    partition,
    conversation_id,
    first_response_s,
    first_human_response_s,
    human_response_after_handoff_s,
    resolution_first_s,
    resolution_last_s,
    active_s
from facts.fct_conversation
where
    first_response_s < 0
    or first_human_response_s < 0
    or human_response_after_handoff_s < 0
    or resolution_first_s < 0
    or resolution_last_s < 0
    or active_s < 0

-- The conversations that topics are told for, one row each.
select
    partition,
    conversation_id
from facts.fct_conversation
where is_counted and not is_empty

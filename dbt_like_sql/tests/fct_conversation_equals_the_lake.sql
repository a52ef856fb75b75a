-- A conversation that is in the lake and not among the facts, or the other way round, or more than once.
with fact_total as (
    select
        partition,
        conversation_id,
        count(*) as facts
    from facts.fct_conversation
    group by partition, conversation_id
)

select
    coalesce(l.conversation_id, f.conversation_id) as conversation_id,
    coalesce(l.partition, f.partition) as partition,
    f.facts
from lake.conversations as l
full outer join fact_total as f on l.partition = f.partition and l.conversation_id = f.conversation_id
where l.conversation_id is null or f.facts is distinct from 1

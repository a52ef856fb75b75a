-- A partition where staging has another number of messages than the lake, or a message that the lake lacks.
with lake_total as (
    select
        partition,
        count(*) as messages
    from lake.messages
    group by partition
),

staged_total as (
    select
        s.partition,
        count(*) as messages,
        count(l.message_id) as known,
        count(distinct s.message_id) as distinct_messages
    from facts.stg_messages as s
    left join lake.messages as l on s.partition = l.partition and s.message_id = l.message_id
    group by s.partition
)

select
    coalesce(l.partition, s.partition) as partition,
    l.messages as lake_messages,
    s.messages as staged_messages,
    s.known as known_messages,
    s.distinct_messages
from lake_total as l
full outer join staged_total as s on l.partition = s.partition
where
    l.messages is distinct from s.messages
    or l.messages is distinct from s.known
    or l.messages is distinct from s.distinct_messages

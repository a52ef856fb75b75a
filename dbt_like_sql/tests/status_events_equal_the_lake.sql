-- A conversation whose changes of status are not those of the lake, are not numbered from 1 in order of time
-- or whose business time runs backwards.
with lake_total as (
    select
        partition,
        conversation_id,
        len(status_events) as events
    from lake.conversations
    where len(status_events) > 0
),

fact_event as (
    select
        *,
        lag(at_us) over (partition by partition, conversation_id order by event_no) as previous_us,
        lag(business_us) over (partition by partition, conversation_id order by event_no)
            as previous_business_us
    from facts.fct_status_event
),

fact_total as (
    select
        partition,
        conversation_id,
        count(*) as events,
        max(event_no) as last_no,
        cast(sum(
            case
                when
                    at_us < previous_us
                    or business_us < previous_business_us
                    or business_us - previous_business_us > at_us - previous_us
                    then 1
                else 0
            end
        ) as bigint) as out_of_order
    from fact_event
    group by partition, conversation_id
)

select
    coalesce(l.partition, f.partition) as partition,
    coalesce(l.conversation_id, f.conversation_id) as conversation_id,
    l.events as lake_events,
    f.events as fact_events,
    f.last_no,
    f.out_of_order
from lake_total as l
full outer join fact_total as f on l.partition = f.partition and l.conversation_id = f.conversation_id
where
    l.events is distinct from f.events
    or f.last_no <> f.events
    or f.out_of_order > 0

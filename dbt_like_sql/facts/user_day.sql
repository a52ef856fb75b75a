-- Stretches of a user's own live messages inside the partition, cut at a silence longer than $session_gap_us
-- (microseconds), at local midnight and where the language changes. Two messages closer than the gap are in
-- one stretch or in two that are closer than the gap, so joining stretches across partitions gives the very
-- sessions that all messages together would give.
with message as (
    select
        partition,
        user_id,
        conversation_id,
        message_no,
        created_us,
        local_date,
        language,
        row_number() over (partition by partition, conversation_id, local_date order by message_no)
            as place_in_day,
        lag(created_us) over (
            partition by partition, user_id order by created_us, conversation_id, message_no
        ) as previous_us,
        lag(local_date) over (
            partition by partition, user_id order by created_us, conversation_id, message_no
        ) as previous_date,
        lag(language) over (
            partition by partition, user_id order by created_us, conversation_id, message_no
        ) as previous_language
    from facts.stg_messages
    where is_counted and sender_type = 'user' and traffic_class = 'live'
),

marked as (
    select
        *,
        case
            when
                previous_us is null
                or created_us - previous_us > $session_gap_us
                or local_date <> previous_date
                or language <> previous_language
                then 1
            else 0
        end as opens_stretch
    from message
),

numbered as (
    select
        *,
        cast(sum(opens_stretch) over (
            partition by partition, user_id, local_date
            order by created_us, conversation_id, message_no rows between unbounded preceding and current row
        ) as bigint) as stretch_no
    from marked
)

select
    partition,
    user_id,
    local_date,
    stretch_no,
    language,
    min(created_us) as started_us,
    max(created_us) as ended_us,
    count(*) as messages,
    cast(sum(case when place_in_day = 1 then 1 else 0 end) as bigint) as conversations
from numbered
group by partition, user_id, local_date, stretch_no, language

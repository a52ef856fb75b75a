-- One row per message of the lake, typed and without its text.
-- The only model that meets clocks, calendars, time zones and texts: after it an instant is an integer of
-- microseconds (UTC), a local day a date, and a text its length. business_us is the instant in business time:
-- open microseconds before it, so the difference of two is the business time between them.
with conversation as (
    select
        partition,
        conversation_id,
        user_id,
        traffic_class,
        language,
        coalesce(channel, 'unknown') as channel
    from lake.conversations
),

translation as (
    select
        partition,
        message_id,
        max(case when status = 'ok' then 3 when status = 'failed' then 2 else 1 end) as best
    from lake.translations
    group by partition, message_id
),

message as (
    select
        partition,
        conversation_id,
        message_id,
        seq,
        sender_type,
        sender_id,
        is_private,
        language as language_declared,
        language_detected,
        epoch_us(created_at) as created_us,
        epoch_us(source_updated_at) as source_updated_us,
        created_at at time zone $report_timezone as local_at,
        cast(created_at at time zone $report_timezone as date) as local_date,
        case
            when sender_type = 'user' then 'user'
            when sender_type in ('bot', 'agent') then 'staff'
        end as side,
        sender_type <> 'system' and not is_private as is_counted,
        coalesce(length(text), 0) as text_chars
    from lake.messages
),

placed as (
    select
        partition,
        conversation_id,
        message_id,
        side,
        is_counted,
        row_number() over (
            partition by partition, conversation_id
            order by created_us, coalesce(seq, 2147483647), message_id
        ) as message_no
    from message
),

-- a turn is a run of counted messages of one side
sided as (
    select
        partition,
        conversation_id,
        message_id,
        is_counted,
        message_no,
        case
            when not is_counted then false
            else
                coalesce(
                    lag(side) over (partition by partition, conversation_id, is_counted order by message_no)
                    <> side,
                    true
                )
        end as opens_turn
    from placed
),

turned as (
    select
        partition,
        conversation_id,
        message_id,
        is_counted,
        message_no,
        opens_turn,
        cast(sum(case when opens_turn then 1 else 0 end) over (
            partition by partition, conversation_id
            order by message_no rows between unbounded preceding and current row
        ) as bigint) as turns_so_far
    from sided
)

select
    m.partition,
    m.conversation_id,
    p.message_no,
    m.message_id,
    m.seq,
    m.sender_type,
    m.sender_id,
    m.side,
    m.is_private,
    m.is_counted,
    case when p.is_counted then p.turns_so_far end as turn_no,
    p.opens_turn,
    m.created_us,
    b.cum_before_us
    + case
        when m.created_us >= b.close_1_us then b.close_1_us - b.open_1_us
        when m.created_us > b.open_1_us then m.created_us - b.open_1_us
        else 0
    end
    + case
        when m.created_us >= b.close_2_us then b.close_2_us - b.open_2_us
        when m.created_us > b.open_2_us then m.created_us - b.open_2_us
        else 0
    end
    + case
        when m.created_us >= b.close_3_us then b.close_3_us - b.open_3_us
        when m.created_us > b.open_3_us then m.created_us - b.open_3_us
        else 0
    end
    + case
        when m.created_us >= b.close_4_us then b.close_4_us - b.open_4_us
        when m.created_us > b.open_4_us then m.created_us - b.open_4_us
        else 0
    end as business_us,
    m.local_date,
    cast(extract(hour from m.local_at) as bigint) as local_hour,
    cast(extract(isodow from m.local_at) as bigint) as local_isodow,
    coalesce(
        case when m.language_detected <> 'und' then m.language_detected end,
        m.language_declared,
        c.language,
        'und'
    ) as language,
    m.language_declared,
    m.language_detected,
    case
        when m.language_declared <> 'und' and m.language_detected <> 'und'
            then
                split_part(lower(m.language_declared), '-', 1)
                = split_part(lower(m.language_detected), '-', 1)
    end as detection_agrees,
    cast(m.text_chars as bigint) as text_chars,
    t.best is not null as needs_translation,
    coalesce(t.best = 3, false) as is_translated,
    case
        when t.best = 3 then 'ok'
        when t.best = 2 then 'failed'
        when t.best = 1 then 'skipped'
    end as translation_status,
    c.channel,
    c.user_id,
    c.traffic_class,
    m.source_updated_us
from message as m
inner join turned as p
    on m.partition = p.partition and m.conversation_id = p.conversation_id and m.message_id = p.message_id
left join conversation as c
    on m.partition = c.partition and m.conversation_id = c.conversation_id
left join translation as t
    on m.partition = t.partition and m.message_id = t.message_id
left join settings.business_day as b
    on m.local_date = b.local_date

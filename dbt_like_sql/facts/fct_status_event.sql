-- One row per change of status, as the source tells it, in order of time; events of one instant stay as
-- given. Instants in microseconds (UTC); business_us as in stg_messages.
with listed as (
    select
        c.partition,
        c.conversation_id,
        c.traffic_class,
        e.place,
        epoch_us(struct_extract(e.event, 'at')) as at_us,
        cast(struct_extract(e.event, 'at') at time zone $report_timezone as date) as local_date,
        struct_extract(e.event, 'from_status') as from_status,
        struct_extract(e.event, 'to_status') as to_status,
        struct_extract(e.event, 'actor') as actor
    from lake.conversations as c
    cross join unnest(c.status_events) with ordinality as e (event, place)
)

select
    l.partition,
    l.conversation_id,
    row_number() over (partition by l.partition, l.conversation_id order by l.at_us, l.place) as event_no,
    l.at_us,
    b.cum_before_us
    + case
        when l.at_us >= b.close_1_us then b.close_1_us - b.open_1_us
        when l.at_us > b.open_1_us then l.at_us - b.open_1_us
        else 0
    end
    + case
        when l.at_us >= b.close_2_us then b.close_2_us - b.open_2_us
        when l.at_us > b.open_2_us then l.at_us - b.open_2_us
        else 0
    end
    + case
        when l.at_us >= b.close_3_us then b.close_3_us - b.open_3_us
        when l.at_us > b.open_3_us then l.at_us - b.open_3_us
        else 0
    end
    + case
        when l.at_us >= b.close_4_us then b.close_4_us - b.open_4_us
        when l.at_us > b.open_4_us then l.at_us - b.open_4_us
        else 0
    end as business_us,
    l.local_date,
    l.from_status,
    l.to_status,
    l.actor,
    cast(sum(case when l.to_status = 'resolved' then 1 else 0 end) over (
        partition by l.partition, l.conversation_id
        order by l.at_us, l.place rows between unbounded preceding and current row
    ) as bigint) as resolve_no,
    l.traffic_class
from listed as l
left join settings.business_day as b on l.local_date = b.local_date

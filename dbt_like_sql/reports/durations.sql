-- Durations of live conversations in seconds, one row each: response clocks by the local day on which they
-- started (replies with the agent who gave them, 'nobody' for bots; those of business time end in
-- `_business`), resolutions by that of the first counted message. NULL where the clock was not stopped.
with response as (
    select
        r.report_date,
        r.channel,
        r.language,
        coalesce(f.category, 'not categorised') as category,
        r.clock,
        case
            when r.clock = 'reply' and w.replier_type = 'agent' then coalesce(w.replier_id, 'unknown')
            else 'nobody'
        end as replier,
        case when r.stopped_us >= r.since_us then (r.stopped_us - r.since_us) / 1e6 end as duration_s,
        case
            when r.stopped_business_us >= r.since_business_us
                then (r.stopped_business_us - r.since_business_us) / 1e6
        end as business_s
    from facts.fct_response as r
    inner join facts.fct_conversation as f
        on r.partition = f.partition and r.conversation_id = f.conversation_id
    left join facts.fct_wait as w
        on
            r.partition = w.partition
            and r.conversation_id = w.conversation_id
            and r.turn_no = w.turn_no
    where r.traffic_class = 'live'
)

select
    report_date,
    channel,
    language,
    category,
    clock,
    replier,
    duration_s
from response
union all
select
    report_date,
    channel,
    language,
    category,
    clock || '_business' as clock,
    'nobody' as replier,
    business_s as duration_s
from response
where business_s is not null
union all
select
    first_message_date as report_date,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    'resolution_first' as clock,
    'nobody' as replier,
    resolution_first_s as duration_s
from facts.fct_conversation
where is_counted
union all
select
    first_message_date as report_date,
    channel,
    language,
    coalesce(category, 'not categorised') as category,
    'resolution_last' as clock,
    'nobody' as replier,
    resolution_last_s as duration_s
from facts.fct_conversation
where is_counted

-- Exact percentiles in seconds, interpolated, of each clock over all live facts: as a whole, by day, by channel,
-- by category, and of replies by agent. What histograms give within 1 % is exact here, where nothing is filtered.
with duration as (
    select
        first_user_date as report_date,
        channel,
        language,
        coalesce(category, 'not categorised') as category,
        'first' as clock,
        'nobody' as replier,
        first_response_s as duration_s
    from facts.fct_conversation
    where is_counted
    union all
    select
        first_user_date as report_date,
        channel,
        language,
        coalesce(category, 'not categorised') as category,
        'first_human' as clock,
        'nobody' as replier,
        first_human_response_s as duration_s
    from facts.fct_conversation
    where is_counted
    union all
    select
        handoff_date as report_date,
        channel,
        language,
        coalesce(category, 'not categorised') as category,
        'after_handoff' as clock,
        'nobody' as replier,
        human_response_after_handoff_s as duration_s
    from facts.fct_conversation
    where is_counted
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
    union all
    select
        w.local_date as report_date,
        w.channel,
        w.language,
        coalesce(f.category, 'not categorised') as category,
        'reply' as clock,
        case when w.replier_type = 'agent' then coalesce(w.replier_id, 'unknown') else 'nobody' end as replier,
        w.reply_s as duration_s
    from facts.fct_wait as w
    inner join facts.fct_conversation as f
        on w.partition = f.partition and w.conversation_id = f.conversation_id
    where w.traffic_class = 'live'
),

placed as (
    select
        clock,
        'all' as dimension,
        '' as place,
        duration_s
    from duration
    union all
    select
        clock,
        'day' as dimension,
        cast(report_date as varchar) as place,
        duration_s
    from duration
    union all
    select
        clock,
        'channel' as dimension,
        channel as place,
        duration_s
    from duration
    where clock in ('resolution_first', 'resolution_last')
    union all
    select
        clock,
        'category' as dimension,
        category as place,
        duration_s
    from duration
    where clock = 'resolution_last'
    union all
    select
        clock,
        'agent' as dimension,
        replier as place,
        duration_s
    from duration
    where clock = 'reply' and replier <> 'nobody'
)

select
    clock,
    dimension,
    place,
    quantile_cont(duration_s, 0.5) as p50_s,
    quantile_cont(duration_s, 0.9) as p90_s,
    quantile_cont(duration_s, 0.95) as p95_s,
    quantile_cont(duration_s, 0.99) as p99_s,
    max(duration_s) as max_s
from placed
where duration_s is not null
group by clock, dimension, place
order by clock, dimension, place

-- The additive log-histogram of durations per local day on which they began, channel, language, category,
-- clock and (for replies) the agent who gave it, 'nobody' for bots. Bucket 0 holds 0 s; every other b holds
-- 1.02 ^ (b - 1000) to 1.02 ^ (b - 999) seconds, so that its middle is within 1 % of all in it.
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
)

select
    report_date,
    channel,
    language,
    category,
    clock,
    replier,
    case when duration_s > 0 then cast(floor(ln(duration_s) / ln(1.02)) as bigint) + 1000 else 0 end as bucket,
    count(*) as n
from duration
where duration_s is not null
group by report_date, channel, language, category, clock, replier, bucket

-- Resolutions per local day of the conversation's first counted message, channel and language. Empty
-- conversations are left out. Three counts stand side by side: events, conversations (resolved), users.
-- Durability is decided 7 days (604800000000 us) after the last resolve, at $as_of_us.
with conversation as (
    select
        first_message_date as report_date,
        channel,
        language,
        user_id,
        resolves,
        reopens,
        touches,
        resolution_first_s,
        resolution_last_s,
        resolution_first_bh_s,
        resolution_last_bh_s,
        resolves > 0 as is_resolved,
        resolves > 0 and is_undone as is_undone,
        resolves > 0 and (is_undone or $as_of_us - last_resolved_us > 604800000000) as is_settled,
        case when last_resolved_us >= first_message_at_us then last_resolved_us - first_message_at_us end
            as last_elapsed_us
    from facts.fct_conversation
    where is_counted and not is_empty
),

judged as (
    select
        *,
        case when is_settled and not is_undone then resolution_last_s end as durable_s
    from conversation
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    count(*) as started,
    cast(sum(case when is_resolved then 1 else 0 end) as bigint) as resolved,
    cast(sum(case when reopens > 0 then 1 else 0 end) as bigint) as reopened,
    cast(sum(case when is_settled then 1 else 0 end) as bigint) as settled,
    cast(sum(case when is_settled and not is_undone then 1 else 0 end) as bigint) as durable,
    cast(sum(resolves) as bigint) as resolution_events,
    count(distinct case when is_resolved then user_id end) as resolution_users,
    count(last_elapsed_us) as resolution_n,
    quantile_cont(resolution_first_s, 0.5) as first_p50_s,
    quantile_cont(resolution_first_s, 0.9) as first_p90_s,
    quantile_cont(resolution_last_s, 0.5) as last_p50_s,
    quantile_cont(resolution_last_s, 0.9) as last_p90_s,
    cast(sum(last_elapsed_us) as bigint) / 1e6 as last_sum_s,
    quantile_cont(durable_s, 0.5) as durable_p50_s,
    quantile_cont(durable_s, 0.9) as durable_p90_s,
    quantile_cont(resolution_first_bh_s, 0.5) as first_bh_p50_s,
    quantile_cont(resolution_first_bh_s, 0.9) as first_bh_p90_s,
    quantile_cont(resolution_last_bh_s, 0.5) as last_bh_p50_s,
    quantile_cont(resolution_last_bh_s, 0.9) as last_bh_p90_s,
    cast(sum(case when is_resolved and touches = 0 then 1 else 0 end) as bigint) as zero_touch,
    cast(sum(case when is_resolved and touches = 1 then 1 else 0 end) as bigint) as one_touch,
    cast(sum(case when is_resolved and touches = 2 then 1 else 0 end) as bigint) as two_touch,
    cast(sum(case when is_resolved and touches > 2 then 1 else 0 end) as bigint) as multi_touch
from judged
group by report_date, channel, language

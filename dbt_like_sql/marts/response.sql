-- Response times per local day on which the clock started, channel, language and clock. Percentiles in
-- seconds, exact, interpolated. A clock that nobody stopped is counted (n_open) and has no seconds. Within a
-- target counts against those decided: answered, or open for longer than the target at $as_of_us.
with reading as (
    select
        first_user_date as report_date,
        channel,
        language,
        'first' as clock,
        first_user_at_us as since_us,
        first_any_at_us as stopped_us
    from facts.fct_conversation
    where is_counted and first_user_at_us is not null
    union all
    select
        first_user_date as report_date,
        channel,
        language,
        'first_human' as clock,
        first_user_at_us as since_us,
        first_human_at_us as stopped_us
    from facts.fct_conversation
    where
        is_counted
        and first_user_at_us is not null
        -- one that a bot answered and no agent took does not wait for a person
        and (first_human_at_us is not null or first_any_at_us is null)
    union all
    select
        handoff_date as report_date,
        channel,
        language,
        'after_handoff' as clock,
        handoff_at_us as since_us,
        first_human_at_us as stopped_us
    from facts.fct_conversation
    where is_counted and handoff_at_us is not null
    union all
    select
        local_date as report_date,
        channel,
        language,
        'reply' as clock,
        waiting_since_us as since_us,
        replied_at_us as stopped_us
    from facts.fct_wait
    where traffic_class = 'live'
),

timed as (
    select
        report_date,
        channel,
        language,
        clock,
        since_us,
        stopped_us,
        stopped_us - since_us as elapsed_us,
        (stopped_us - since_us) / 1e6 as elapsed_s
    from reading
),

summary as (
    select
        report_date,
        channel,
        language,
        clock,
        count(stopped_us) as n,
        count(*) - count(stopped_us) as n_open,
        cast(sum(elapsed_us) as bigint) / 1e6 as sum_s,
        quantile_cont(elapsed_s, 0.5) as p50_s,
        quantile_cont(elapsed_s, 0.9) as p90_s,
        quantile_cont(elapsed_s, 0.95) as p95_s,
        quantile_cont(elapsed_s, 0.99) as p99_s,
        max(elapsed_s) as max_s,
        cast(sum(case when elapsed_us <= $target_1_us then 1 else 0 end) as bigint) as within_target_1,
        cast(sum(
            case when stopped_us is not null or $as_of_us - since_us > $target_1_us then 1 else 0 end
        ) as bigint) as decided_1,
        cast(sum(case when elapsed_us <= $target_2_us then 1 else 0 end) as bigint) as within_target_2,
        cast(sum(
            case when stopped_us is not null or $as_of_us - since_us > $target_2_us then 1 else 0 end
        ) as bigint) as decided_2,
        cast(sum(case when elapsed_us <= $target_3_us then 1 else 0 end) as bigint) as within_target_3,
        cast(sum(
            case when stopped_us is not null or $as_of_us - since_us > $target_3_us then 1 else 0 end
        ) as bigint) as decided_3
    from timed
    group by report_date, channel, language, clock
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    clock,
    n,
    n_open,
    sum_s,
    case when n > 0 then sum_s / n end as avg_s,
    p50_s,
    p90_s,
    p95_s,
    p99_s,
    max_s,
    within_target_1,
    decided_1,
    within_target_2,
    decided_2,
    within_target_3,
    decided_3
from summary

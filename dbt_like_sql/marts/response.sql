-- Response times per local day on which the clock started, channel, language, clock and hours: calendar
-- time, or business time where the hours were known. Percentiles in seconds, exact, interpolated. A clock
-- that nobody stopped is counted (n_open) and has no seconds. Within a target counts against those decided:
-- answered, or open for longer than the target at $as_of_us, in business time at $as_of_business_us.
with reading as (
    select
        report_date,
        channel,
        language,
        clock,
        'calendar' as hours,
        stopped_us,
        stopped_us - since_us as elapsed_us,
        $as_of_us - since_us as age_us
    from facts.fct_response
    where traffic_class = 'live'
    union all
    select
        report_date,
        channel,
        language,
        clock,
        'business' as hours,
        stopped_us,
        stopped_business_us - since_business_us as elapsed_us,
        $as_of_business_us - since_business_us as age_us
    from facts.fct_response
    where traffic_class = 'live' and since_business_us is not null
),

timed as (
    select
        *,
        elapsed_us / 1e6 as elapsed_s
    from reading
),

summary as (
    select
        report_date,
        channel,
        language,
        clock,
        hours,
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
            case when stopped_us is not null or age_us > $target_1_us then 1 else 0 end
        ) as bigint) as decided_1,
        cast(sum(case when elapsed_us <= $target_2_us then 1 else 0 end) as bigint) as within_target_2,
        cast(sum(
            case when stopped_us is not null or age_us > $target_2_us then 1 else 0 end
        ) as bigint) as decided_2,
        cast(sum(case when elapsed_us <= $target_3_us then 1 else 0 end) as bigint) as within_target_3,
        cast(sum(
            case when stopped_us is not null or age_us > $target_3_us then 1 else 0 end
        ) as bigint) as decided_3
    from timed
    group by report_date, channel, language, clock, hours
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    clock,
    hours,
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

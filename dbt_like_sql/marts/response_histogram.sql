-- Response times in logarithmic buckets, additive: the percentiles of any rows come from the sum of their
-- buckets within 1 %. Bucket k holds durations from 1.02^k up to 1.02^(k+1) seconds; none at all counts as a
-- nanosecond, so 0 s has a bucket of its own (-1047), below that of a microsecond. 1e-9 keeps a duration on
-- the very edge of a bucket (1 s, 1.02 s) in it, whichever way the last digit of a logarithm falls.
with reading as (
    select
        report_date,
        channel,
        language,
        clock,
        'calendar' as hours,
        stopped_us - since_us as elapsed_us
    from facts.fct_response
    where traffic_class = 'live' and stopped_us is not null
    union all
    select
        report_date,
        channel,
        language,
        clock,
        'business' as hours,
        stopped_business_us - since_business_us as elapsed_us
    from facts.fct_response
    where traffic_class = 'live' and stopped_us is not null and since_business_us is not null
),

timed as (
    select
        report_date,
        channel,
        language,
        clock,
        hours,
        case when elapsed_us > 0 then elapsed_us / 1e6 else 1e-9 end as elapsed_s
    from reading
),

placed as (
    select
        report_date,
        channel,
        language,
        clock,
        hours,
        cast(floor(ln(elapsed_s) / ln(1.02) + 1e-9) as bigint) as bucket
    from timed
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    clock,
    hours,
    bucket,
    count(*) as n
from placed
group by report_date, channel, language, clock, hours, bucket

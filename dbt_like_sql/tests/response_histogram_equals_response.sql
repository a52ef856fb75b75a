-- A row of response times whose buckets do not add up to it, or do not hold its longest duration.
with histogram_total as (
    select
        report_date,
        channel,
        language,
        clock,
        hours,
        cast(sum(n) as bigint) as n,
        min(n) as least,
        max(bucket) as last_bucket
    from marts.response_histogram
    group by report_date, channel, language, clock, hours
)

select
    coalesce(r.report_date, h.report_date) as report_date,
    coalesce(r.channel, h.channel) as channel,
    coalesce(r.language, h.language) as language,
    coalesce(r.clock, h.clock) as clock,
    coalesce(r.hours, h.hours) as hours,
    r.n,
    h.n as histogram_n,
    r.max_s,
    h.last_bucket
from marts.response as r
full outer join histogram_total as h
    on
        r.report_date = h.report_date
        and r.channel = h.channel
        and r.language = h.language
        and r.clock = h.clock
        and r.hours = h.hours
where
    coalesce(r.n, 0) <> coalesce(h.n, 0)
    or h.least < 1
    or (r.max_s > 0 and (r.max_s < 0.999999 * 1.02 ** h.last_bucket or r.max_s > 1.02 ** (h.last_bucket + 1)))
    or (r.max_s = 0 and h.last_bucket <> -1047)

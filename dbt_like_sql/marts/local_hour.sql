-- The hours that the report zone's clocks really showed, from the first day with traffic to the last: 3,600 s
-- each, but 0 (no row) or 7,200 where the clocks change, 1,800 where they change by half an hour. Counted in
-- quarters of an hour of UTC, as no zone in use changes its clocks at another minute.
with bound as (
    select
        min(local_date) as first_date,
        max(local_date) as last_date
    from facts.fct_traffic
),

quarter as (
    select
        first_date,
        last_date,
        unnest(generate_series(
            cast(first_date as timestamp) - interval 1 day,
            cast(last_date as timestamp) + interval 2 day,
            interval 15 minute
        )) at time zone 'UTC' at time zone $report_timezone as local_at
    from bound
),

dated as (
    select
        first_date,
        last_date,
        cast(local_at as date) as report_date,
        cast(extract(hour from local_at) as bigint) as local_hour,
        cast(extract(isodow from local_at) as bigint) as local_isodow
    from quarter
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    local_hour,
    local_isodow,
    count(*) * 900 as seconds
from dated
where report_date >= first_date and report_date <= last_date
group by report_date, local_hour, local_isodow

-- A local day whose hours do not last for 23 to 25 hours together, that is missing between the first and the
-- last, or an hour that has traffic and never was.
with day as (
    select
        report_date,
        sum(seconds) as seconds,
        lag(report_date) over (order by report_date) as previous_date
    from marts.local_hour
    group by report_date
),

written as (
    select distinct
        local_date as report_date,
        local_hour
    from facts.fct_traffic
)

select
    report_date,
    seconds
from day
where seconds not between 82800 and 90000 or date_diff('day', previous_date, report_date) <> 1
union all
select
    w.report_date,
    0 as seconds
from written as w
left join marts.local_hour as h on w.report_date = h.report_date and w.local_hour = h.local_hour
where h.seconds is null

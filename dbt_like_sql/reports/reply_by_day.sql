-- One row per local day on which users waited: exact percentiles of the reply time, in seconds.
-- Taken from the facts, as percentiles of a mart's rows cannot be merged.
select
    local_date as report_date,
    count(reply_s) as n,
    cast(sum(case when replied_at_us is null then 1 else 0 end) as bigint) as n_open,
    quantile_cont(reply_s, 0.5) as p50_s,
    quantile_cont(reply_s, 0.9) as p90_s
from facts.fct_wait
where traffic_class = 'live'
group by local_date
order by local_date

-- One row per channel: resolutions of live conversations; durations in seconds, exact, taken from the facts.
select
    channel,
    cast(sum(case when is_empty then 0 else 1 end) as bigint) as started,
    cast(sum(case when resolves > 0 then 1 else 0 end) as bigint) as resolved,
    cast(sum(case when reopens > 0 then 1 else 0 end) as bigint) as reopened,
    cast(sum(case when outcome = 'contained' then 1 else 0 end) as bigint) as contained,
    cast(sum(case when handed_off then 1 else 0 end) as bigint) as handed_off,
    quantile_cont(resolution_first_s, 0.5) as first_p50_s,
    quantile_cont(resolution_last_s, 0.5) as last_p50_s,
    quantile_cont(resolution_last_s, 0.9) as last_p90_s
from facts.fct_conversation
where is_counted
group by channel
order by channel

-- One row per category of live conversations; durations in seconds.
select
    coalesce(category, 'not categorised') as category,
    count(*) as conversations,
    cast(sum(case when resolves > 0 then 1 else 0 end) as bigint) as resolved,
    cast(sum(case when outcome = 'contained' then 1 else 0 end) as bigint) as contained,
    quantile_cont(resolution_last_s, 0.5) as resolution_p50_s
from facts.fct_conversation
where is_counted and not is_empty
group by coalesce(category, 'not categorised')
order by conversations desc, category asc

-- One row per day on which live conversations started, the newest first: what its daily report tells of.
-- Durations in seconds.
select
    partition as day,
    count(*) as conversations,
    cast(sum(messages) as bigint) as messages,
    cast(sum(case when unanswered then 1 else 0 end) as bigint) as unanswered,
    cast(sum(case when resolves > 0 then 1 else 0 end) as bigint) as resolved,
    quantile_cont(first_response_s, 0.5) as first_response_p50_s
from facts.fct_conversation
where is_counted
group by partition
order by partition desc

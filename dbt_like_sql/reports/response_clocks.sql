-- One row per clock, over the live facts it is given: how many stopped, how many run, percentiles in seconds.
with clocks as (
    select
        1 as clock_no,
        'First response' as clock,
        first_response_s as duration_s,
        case when first_user_at_us is not null and first_any_at_us is null then 1 else 0 end as is_open
    from facts.fct_conversation
    where is_counted
    union all
    select
        2 as clock_no,
        'First human response' as clock,
        first_human_response_s as duration_s,
        case when first_user_at_us is not null and first_any_at_us is null then 1 else 0 end as is_open
    from facts.fct_conversation
    where is_counted
    union all
    select
        3 as clock_no,
        'Human response after hand-off' as clock,
        human_response_after_handoff_s as duration_s,
        0 as is_open
    from facts.fct_conversation
    where is_counted
    union all
    select
        4 as clock_no,
        'Reply to a user turn' as clock,
        reply_s as duration_s,
        case when replied_at_us is null then 1 else 0 end as is_open
    from facts.fct_wait
    where traffic_class = 'live'
)

select
    clock,
    count(duration_s) as n,
    cast(sum(is_open) as bigint) as n_open,
    quantile_cont(duration_s, 0.5) as p50_s,
    quantile_cont(duration_s, 0.9) as p90_s,
    quantile_cont(duration_s, 0.95) as p95_s,
    quantile_cont(duration_s, 0.99) as p99_s,
    max(duration_s) as max_s
from clocks
group by clock_no, clock
order by clock_no

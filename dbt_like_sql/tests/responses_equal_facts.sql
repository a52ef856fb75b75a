-- A partition and clock whose response times are not those of conversations and waits, in time and business
-- time.
with fact_total as (
    select
        partition,
        'first' as clock,
        count(first_user_at_us) as clocks,
        count(first_response_s) as stopped,
        count(first_response_bh_s) as business_stopped,
        sum(first_response_s) as total_s,
        sum(first_response_bh_s) as business_s
    from facts.fct_conversation
    group by partition
    union all
    select
        partition,
        'first_human' as clock,
        cast(sum(
            case
                when first_human_at_us is not null then 1
                when first_user_at_us is not null and first_any_at_us is null then 1
                else 0
            end
        ) as bigint) as clocks,
        count(first_human_response_s) as stopped,
        count(first_human_response_bh_s) as business_stopped,
        sum(first_human_response_s) as total_s,
        sum(first_human_response_bh_s) as business_s
    from facts.fct_conversation
    group by partition
    union all
    select
        partition,
        'after_handoff' as clock,
        count(handoff_at_us) as clocks,
        count(human_response_after_handoff_s) as stopped,
        count(human_response_after_handoff_bh_s) as business_stopped,
        sum(human_response_after_handoff_s) as total_s,
        sum(human_response_after_handoff_bh_s) as business_s
    from facts.fct_conversation
    group by partition
    union all
    select
        partition,
        'reply' as clock,
        count(*) as clocks,
        count(reply_s) as stopped,
        count(reply_bh_s) as business_stopped,
        sum(reply_s) as total_s,
        sum(reply_bh_s) as business_s
    from facts.fct_wait
    group by partition
),

response_total as (
    select
        partition,
        clock,
        count(*) as clocks,
        count(stopped_us) as stopped,
        count(stopped_business_us - since_business_us) as business_stopped,
        cast(sum(stopped_us - since_us) as bigint) / 1e6 as total_s,
        cast(sum(stopped_business_us - since_business_us) as bigint) / 1e6 as business_s
    from facts.fct_response
    group by partition, clock
)

select
    f.partition,
    f.clock,
    f.clocks,
    r.clocks as response_clocks,
    f.stopped,
    r.stopped as response_stopped,
    f.business_stopped,
    r.business_stopped as response_business_stopped,
    f.total_s,
    r.total_s as response_total_s
from fact_total as f
left join response_total as r on f.partition = r.partition and f.clock = r.clock
where
    f.clocks <> coalesce(r.clocks, 0)
    or f.stopped <> coalesce(r.stopped, 0)
    or f.business_stopped <> coalesce(r.business_stopped, 0)
    -- sums of floats against a sum of integers
    or abs(coalesce(f.total_s, 0) - coalesce(r.total_s, 0)) > 1e-3
    or abs(coalesce(f.business_s, 0) - coalesce(r.business_s, 0)) > 1e-3

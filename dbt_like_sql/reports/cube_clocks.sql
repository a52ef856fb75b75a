-- Response clocks per local day on which they started, channel, language, category and clock: how many
-- stopped, how many run, and how many of those decided kept each target at $as_of_us, as in marts.response.
with reading as (
    select
        first_user_date as report_date,
        channel,
        language,
        coalesce(category, 'not categorised') as category,
        'first' as clock,
        first_user_at_us as since_us,
        first_any_at_us as stopped_us
    from facts.fct_conversation
    where is_counted and first_user_at_us is not null
    union all
    select
        first_user_date as report_date,
        channel,
        language,
        coalesce(category, 'not categorised') as category,
        'first_human' as clock,
        first_user_at_us as since_us,
        first_human_at_us as stopped_us
    from facts.fct_conversation
    where
        is_counted
        and first_user_at_us is not null
        -- one that a bot answered and no agent took does not wait for a person
        and (first_human_at_us is not null or first_any_at_us is null)
    union all
    select
        handoff_date as report_date,
        channel,
        language,
        coalesce(category, 'not categorised') as category,
        'after_handoff' as clock,
        handoff_at_us as since_us,
        first_human_at_us as stopped_us
    from facts.fct_conversation
    where is_counted and handoff_at_us is not null
    union all
    select
        w.local_date as report_date,
        w.channel,
        w.language,
        coalesce(f.category, 'not categorised') as category,
        'reply' as clock,
        w.waiting_since_us as since_us,
        w.replied_at_us as stopped_us
    from facts.fct_wait as w
    inner join facts.fct_conversation as f
        on w.partition = f.partition and w.conversation_id = f.conversation_id
    where w.traffic_class = 'live'
),

timed as (
    select
        *,
        stopped_us - since_us as elapsed_us,
        $as_of_us - since_us as age_us
    from reading
)

select
    report_date,
    channel,
    language,
    category,
    clock,
    count(stopped_us) as response_n,
    count(*) - count(stopped_us) as response_n_open,
    cast(sum(case when elapsed_us <= $target_1_us then 1 else 0 end) as bigint) as within_target_1,
    cast(sum(case when stopped_us is not null or age_us > $target_1_us then 1 else 0 end) as bigint)
        as decided_1,
    cast(sum(case when elapsed_us <= $target_2_us then 1 else 0 end) as bigint) as within_target_2,
    cast(sum(case when stopped_us is not null or age_us > $target_2_us then 1 else 0 end) as bigint)
        as decided_2,
    cast(sum(case when elapsed_us <= $target_3_us then 1 else 0 end) as bigint) as within_target_3,
    cast(sum(case when stopped_us is not null or age_us > $target_3_us then 1 else 0 end) as bigint)
        as decided_3
from timed
group by report_date, channel, language, category, clock

-- Response clocks per local day on which they started, channel, language, category and clock: how many
-- stopped, how many run, and how many of those decided kept each target at $as_of_us, as in marts.response.
-- Clocks of business time end in `_business`; targets are of the calendar's time alone.
with reading as (
    select
        r.report_date,
        r.channel,
        r.language,
        coalesce(f.category, 'not categorised') as category,
        r.clock,
        r.stopped_us,
        r.stopped_us - r.since_us as elapsed_us,
        $as_of_us - r.since_us as age_us,
        r.since_business_us
    from facts.fct_response as r
    inner join facts.fct_conversation as f
        on r.partition = f.partition and r.conversation_id = f.conversation_id
    where r.traffic_class = 'live'
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
from reading
group by report_date, channel, language, category, clock
union all
select
    report_date,
    channel,
    language,
    category,
    clock || '_business' as clock,
    count(stopped_us) as response_n,
    count(*) - count(stopped_us) as response_n_open,
    0 as within_target_1,
    0 as decided_1,
    0 as within_target_2,
    0 as decided_2,
    0 as within_target_3,
    0 as decided_3
from reading
where since_business_us is not null
group by report_date, channel, language, category, clock || '_business'

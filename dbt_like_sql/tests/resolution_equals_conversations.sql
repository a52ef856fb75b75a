-- A local day, channel and language whose resolutions are not those of the facts, or do not add up.
with fact_total as (
    select
        first_message_date as report_date,
        channel,
        language,
        count(*) as started,
        cast(sum(case when resolves > 0 then 1 else 0 end) as bigint) as resolved,
        cast(sum(resolves) as bigint) as resolution_events,
        count(resolution_last_s) as resolution_n
    from facts.fct_conversation
    where is_counted and not is_empty
    group by first_message_date, channel, language
)

select
    coalesce(f.report_date, m.report_date) as report_date,
    coalesce(f.channel, m.channel) as channel,
    coalesce(f.language, m.language) as language,
    f.started,
    m.started as mart_started,
    f.resolved,
    m.resolved as mart_resolved,
    m.settled,
    m.durable
from fact_total as f
full outer join marts.resolution as m
    on f.report_date = m.report_date and f.channel = m.channel and f.language = m.language
where
    f.started is distinct from m.started
    or f.resolved is distinct from m.resolved
    or f.resolution_events is distinct from m.resolution_events
    or f.resolution_n is distinct from m.resolution_n
    or m.resolved > m.started
    or m.settled > m.resolved
    or m.durable > m.settled
    or m.reopened > m.resolved
    or m.resolution_users > m.resolved
    or m.zero_touch + m.one_touch + m.two_touch + m.multi_touch <> m.resolved

-- A week, channel, language and category whose funnel does not begin with its conversations, or in which a
-- step has more of them than the step before.
with fact_total as (
    select
        cast(date_trunc('week', first_message_date) as date) as report_date,
        channel,
        language,
        coalesce(category, 'uncategorised') as category,
        count(*) as conversations
    from facts.fct_conversation
    where is_counted and not is_empty
    group by
        cast(date_trunc('week', first_message_date) as date), channel, language,
        coalesce(category, 'uncategorised')
),

mart_total as (
    select
        report_date,
        channel,
        language,
        category,
        cast(sum(started) as bigint) as started,
        sum(
            case
                when bot_answered > started or handed_off + contained > bot_answered then 1
                when agent_answered > handed_off or resolved > agent_answered then 1
                when durable > resolved or csat_answered > durable or contained_durable > contained then 1
                when durable + contained_durable + undecided > resolved + contained then 1
                when contained_csat_answered > contained_durable then 1
                when entry = 'direct' and (handed_off <> started or contained > 0) then 1
                else 0
            end
        ) as broken
    from marts.funnel
    group by report_date, channel, language, category
)

select
    coalesce(f.report_date, m.report_date) as report_date,
    coalesce(f.channel, m.channel) as channel,
    coalesce(f.language, m.language) as language,
    coalesce(f.category, m.category) as category,
    f.conversations,
    m.started,
    m.broken
from fact_total as f
full outer join mart_total as m
    on
        f.report_date = m.report_date
        and f.channel = m.channel
        and f.language = m.language
        and f.category = m.category
where f.conversations is distinct from m.started or m.broken > 0

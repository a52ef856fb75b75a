-- A local day, channel and language whose satisfaction is not that of its conversations, or whose numerators
-- are larger than their denominators.
with mart_total as (
    select
        report_date,
        channel,
        language,
        cast(sum(conversations) as bigint) as conversations,
        cast(sum(answered) as bigint) as answered,
        cast(sum(positive) as bigint) as positive,
        sum(
            case
                when answered > conversations or positive + negative > answered then 1
                when (answered > 0) <> (score_sum is not null) then 1
                else 0
            end
        ) as broken
    from marts.csat
    group by report_date, channel, language
),

fact_total as (
    select
        first_message_date as report_date,
        channel,
        language,
        count(*) as conversations,
        count(csat_score) as answered,
        cast(sum(case when csat_score >= 4 then 1 else 0 end) as bigint) as positive
    from facts.fct_conversation
    where is_counted and not is_empty
    group by first_message_date, channel, language
)

select
    coalesce(m.report_date, f.report_date) as report_date,
    coalesce(m.channel, f.channel) as channel,
    coalesce(m.language, f.language) as language,
    m.conversations as mart_conversations,
    f.conversations,
    m.answered as mart_answered,
    f.answered
from fact_total as f
full outer join mart_total as m
    on f.report_date = m.report_date and f.channel = m.channel and f.language = m.language
where
    f.conversations is distinct from m.conversations
    or f.answered is distinct from m.answered
    or f.positive is distinct from m.positive
    or m.broken > 0

-- Answers to the satisfaction survey per local day of the conversation's first counted message, channel,
-- language and side that is credited: the people if one of them wrote, else the bots, else nobody. Empty
-- conversations are left out. Without an answer there is no score, and never a 0. Scores are summed as whole
-- 100,000,000ths, so no order of rows changes them.
with conversation as (
    select
        first_message_date as report_date,
        channel,
        language,
        csat_score,
        cast(floor(csat_score * 1e8 + 5e-1) as bigint) as exact_score,
        case
            when agent_messages > 0 then 'agent'
            when bot_messages > 0 then 'bot'
            else 'nobody'
        end as credited
    from facts.fct_conversation
    where is_counted and not is_empty
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    credited,
    count(*) as conversations,
    count(csat_score) as answered,
    cast(sum(case when csat_score >= 4 then 1 else 0 end) as bigint) as positive,
    cast(sum(case when csat_score <= 2 then 1 else 0 end) as bigint) as negative,
    cast(sum(exact_score) as bigint) / 1e8 as score_sum
from conversation
group by report_date, channel, language, credited

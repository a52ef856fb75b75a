-- Live conversations per local day of their first counted message, channel, language and category: counts
-- that add up over any rows. Resolutions are of conversations that are not empty, as in marts.resolution;
-- durability is decided 7 days (604800000000 us) after the last resolve, at $as_of_us.
with conversation as (
    select
        first_message_date as report_date,
        channel,
        language,
        coalesce(category, 'not categorised') as category,
        outcome,
        is_empty,
        bot_messages > 0 and user_messages > 0 as has_bot,
        handed_off,
        resolves > 0 and not is_empty as is_resolved,
        reopens > 0 and not is_empty as is_reopened,
        case when is_empty then 0 else resolves end as resolves,
        touches,
        is_undone,
        $as_of_us - last_resolved_us > 604800000000 as is_past,
        csat_score
    from facts.fct_conversation
    where is_counted
)

select
    report_date,
    channel,
    language,
    category,
    count(*) as conversations,
    cast(sum(case when is_empty then 0 else 1 end) as bigint) as conversations_started,
    cast(sum(case when outcome = 'contained' then 1 else 0 end) as bigint) as contained,
    cast(sum(case when outcome = 'agent_resolved' then 1 else 0 end) as bigint) as outcome_agent_resolved,
    cast(sum(case when outcome = 'agent_open' then 1 else 0 end) as bigint) as outcome_agent_open,
    cast(sum(case when outcome = 'bot_open' then 1 else 0 end) as bigint) as outcome_bot_open,
    cast(sum(case when outcome = 'abandoned' then 1 else 0 end) as bigint) as outcome_abandoned,
    cast(sum(case when outcome = 'unanswered' then 1 else 0 end) as bigint) as outcome_unanswered,
    cast(sum(case when outcome = 'empty' then 1 else 0 end) as bigint) as outcome_empty,
    cast(sum(case when has_bot then 1 else 0 end) as bigint) as bot_conversations,
    cast(sum(case when has_bot and handed_off then 1 else 0 end) as bigint) as handed_off,
    cast(sum(case when is_resolved then 1 else 0 end) as bigint) as resolved,
    cast(sum(case when is_reopened then 1 else 0 end) as bigint) as reopened,
    cast(sum(case when is_resolved and (is_undone or is_past) then 1 else 0 end) as bigint) as settled,
    cast(sum(case when is_resolved and is_past and not is_undone then 1 else 0 end) as bigint) as durable,
    cast(sum(resolves) as bigint) as resolution_events,
    cast(sum(case when is_resolved and touches = 0 then 1 else 0 end) as bigint) as zero_touch,
    cast(sum(case when is_resolved and touches = 1 then 1 else 0 end) as bigint) as one_touch,
    cast(sum(case when is_resolved and touches = 2 then 1 else 0 end) as bigint) as two_touch,
    cast(sum(case when is_resolved and touches > 2 then 1 else 0 end) as bigint) as multi_touch,
    count(csat_score) as csat_answered,
    cast(sum(case when csat_score >= 4 then 1 else 0 end) as bigint) as csat_positive,
    coalesce(sum(csat_score), 0) as csat_sum
from conversation
group by report_date, channel, language, category

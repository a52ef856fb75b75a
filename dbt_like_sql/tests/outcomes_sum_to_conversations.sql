-- A local day, channel and bot whose outcomes do not sum to its live conversations.
with fact_total as (
    select
        first_message_date as report_date,
        channel,
        case when bot_messages = 0 then 'none' else coalesce(first_bot_id, 'unknown') end as bot,
        count(*) as conversations,
        cast(sum(case when is_empty then 0 else 1 end) as bigint) as started
    from facts.fct_conversation
    where is_counted
    group by
        first_message_date,
        channel,
        case when bot_messages = 0 then 'none' else coalesce(first_bot_id, 'unknown') end
),

mart_total as (
    select
        report_date,
        channel,
        bot,
        conversations,
        started,
        bot_conversations,
        contained,
        handed_off,
        contained_settled,
        contained_no_return_24h,
        outcome_unanswered + outcome_contained + outcome_agent_resolved + outcome_abandoned
        + outcome_agent_open + outcome_bot_open as with_outcome,
        outcome_empty
    from marts.containment
)

select
    coalesce(f.report_date, m.report_date) as report_date,
    coalesce(f.channel, m.channel) as channel,
    coalesce(f.bot, m.bot) as bot,
    f.conversations,
    m.conversations as mart_conversations,
    m.with_outcome,
    m.outcome_empty
from fact_total as f
full outer join mart_total as m on f.report_date = m.report_date and f.channel = m.channel and f.bot = m.bot
where
    f.conversations is distinct from m.conversations
    or f.started is distinct from m.started
    or m.with_outcome <> m.started
    or m.with_outcome + m.outcome_empty <> m.conversations
    or m.contained + m.handed_off > m.bot_conversations
    or m.contained_settled > m.contained
    or m.contained_no_return_24h > m.contained_settled

-- Who dealt with the conversations, per local day on which they began, channel and first bot. Outcomes
-- exclude each other and sum to the conversations. Those that a bot began and no user joined are no bot
-- conversations. "No return" is decided when the user comes back, or 24 hours (86400000000 us) after the
-- end, at $as_of_us.
with conversation as (
    select
        partition,
        conversation_id,
        user_id,
        first_message_date as report_date,
        channel,
        case when bot_messages = 0 then 'none' else coalesce(first_bot_id, 'unknown') end as bot,
        outcome,
        is_empty,
        handed_off,
        bot_messages > 0 and user_messages > 0 as has_bot,
        started_us,
        coalesce(ended_us, last_message_at_us) as finished_us
    from facts.fct_conversation
    where is_counted
),

-- an empty conversation is not the user coming back
following as (
    select
        partition,
        conversation_id,
        lead(started_us) over (partition by user_id order by started_us, conversation_id) as next_started_us
    from conversation
    where not is_empty
),

judged as (
    select
        c.report_date,
        c.channel,
        c.bot,
        c.outcome,
        c.is_empty,
        c.has_bot,
        c.has_bot and c.handed_off as is_handed_off,
        c.outcome = 'contained' as is_contained,
        coalesce(f.next_started_us - c.finished_us <= 86400000000, false) as has_returned,
        coalesce($as_of_us - c.finished_us > 86400000000, false) as is_past
    from conversation as c
    left join following as f on c.partition = f.partition and c.conversation_id = f.conversation_id
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    bot,
    count(*) as conversations,
    cast(sum(case when is_empty then 0 else 1 end) as bigint) as started,
    cast(sum(case when has_bot then 1 else 0 end) as bigint) as bot_conversations,
    cast(sum(case when is_contained then 1 else 0 end) as bigint) as contained,
    cast(sum(case when is_handed_off then 1 else 0 end) as bigint) as handed_off,
    cast(sum(case when is_contained and (has_returned or is_past) then 1 else 0 end) as bigint)
        as contained_settled,
    cast(sum(case when is_contained and is_past and not has_returned then 1 else 0 end) as bigint)
        as contained_no_return_24h,
    cast(sum(case when outcome = 'abandoned' then 1 else 0 end) as bigint) as abandoned,
    cast(sum(case when outcome = 'empty' then 1 else 0 end) as bigint) as outcome_empty,
    cast(sum(case when outcome = 'unanswered' then 1 else 0 end) as bigint) as outcome_unanswered,
    cast(sum(case when outcome = 'contained' then 1 else 0 end) as bigint) as outcome_contained,
    cast(sum(case when outcome = 'agent_resolved' then 1 else 0 end) as bigint) as outcome_agent_resolved,
    cast(sum(case when outcome = 'abandoned' then 1 else 0 end) as bigint) as outcome_abandoned,
    cast(sum(case when outcome = 'agent_open' then 1 else 0 end) as bigint) as outcome_agent_open,
    cast(sum(case when outcome = 'bot_open' then 1 else 0 end) as bigint) as outcome_bot_open
from judged
group by report_date, channel, bot

-- A conversation whose own figures contradict each other: counts, clocks, resolution or outcome.
with judged as (
    select
        partition,
        conversation_id,
        case
            when messages <> user_messages + bot_messages + agent_messages
                then 'messages are not the sum of senders'
            when is_empty <> (messages = 0) or is_empty <> (first_message_at_us is null)
                then 'is_empty and messages disagree'
            when (user_messages = 0) <> (user_turns = 0) or user_turns > user_messages
                then 'user_turns and user_messages disagree'
            when first_message_at_us > last_message_at_us then 'it ends before it begins'
            when (first_user_at_us is null) <> (user_messages = 0)
                then 'first_user_at_us and user_messages disagree'
            when (first_user_at_us is null) <> (first_user_date is null) then 'first_user_date is missing'
            when first_any_at_us < first_user_at_us or first_human_at_us < first_any_at_us
                then 'answers precede what they answer'
            when first_human_at_us is not null and first_any_at_us is null
                then 'a human answer that is no answer'
            when (handoff_at_us is null) <> (first_human_at_us is null)
                then 'hand-off and human answer disagree'
            when (handoff_at_us is null) <> (handoff_date is null) then 'handoff_date is missing'
            when (agents > 0 or last_agent_id is not null) and agent_messages = 0
                then 'agents without messages'
            when handed_off and (bot_messages = 0 or agent_messages = 0)
                then 'handed off by nobody or to nobody'
            when first_resolved_us > last_resolved_us then 'the last resolve precedes the first'
            when resolves = 0 and (first_resolved_us is not null or is_undone)
                then 'a resolve that is not counted'
            when episodes < 1 or reopens < 0 or resolves < 0 then 'a count below its least'
            when unanswered <> (user_messages > 0 and bot_messages + agent_messages = 0)
                then 'unanswered and messages disagree'
            when (outcome = 'empty') <> is_empty then 'outcome and is_empty disagree'
            when (outcome = 'unanswered') <> unanswered then 'outcome and unanswered disagree'
            when outcome = 'contained' and not contained then 'outcome and contained disagree'
            when outcome in ('contained', 'agent_resolved') and status <> 'resolved'
                then 'outcome and status disagree'
            when llm_currency = 'several' and llm_cost is not null then 'currencies were added up'
            when translated_messages > needing_translation then 'more is translated than needed it'
        end as problem
    from facts.fct_conversation
)

select
    partition,
    conversation_id,
    problem
from judged
where problem is not null

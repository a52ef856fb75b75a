-- A local day, channel and language whose handling does not add up to its conversations and their messages,
-- or whose parts are larger than the whole.
with fact_total as (
    select
        first_message_date as report_date,
        channel,
        language,
        count(*) as conversations,
        cast(sum(messages) as bigint) as messages,
        cast(sum(user_turns) as bigint) as user_turns
    from facts.fct_conversation
    where is_counted and not is_empty
    group by first_message_date, channel, language
)

select
    coalesce(f.report_date, m.report_date) as report_date,
    coalesce(f.channel, m.channel) as channel,
    coalesce(f.language, m.language) as language,
    f.conversations,
    m.conversations as mart_conversations,
    f.messages,
    m.messages as mart_messages
from fact_total as f
full outer join marts.handling as m
    on f.report_date = m.report_date and f.channel = m.channel and f.language = m.language
where
    f.conversations is distinct from m.conversations
    or f.messages is distinct from m.messages
    or f.user_turns is distinct from m.user_turns
    or m.language_mixed > m.language_known
    or m.language_known > m.conversations
    or m.several_agents > m.conversations
    or m.active_p50_s > m.active_p90_s

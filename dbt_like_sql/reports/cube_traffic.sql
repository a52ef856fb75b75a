-- Live counted messages per local day and hour, channel, language and category of the conversation. A
-- conversation is active once a local day, in the hour of its first message of that day.
with message as (
    select
        m.local_date as report_date,
        m.local_hour,
        f.channel,
        f.language,
        coalesce(f.category, 'not categorised') as category,
        m.sender_type,
        m.side,
        lag(m.side) over (partition by m.partition, m.conversation_id order by m.message_no) as previous_side,
        row_number() over (partition by m.partition, m.conversation_id, m.local_date order by m.message_no)
            as place_in_day
    from facts.stg_messages as m
    inner join facts.fct_conversation as f
        on m.partition = f.partition and m.conversation_id = f.conversation_id
    where m.is_counted and m.traffic_class = 'live'
)

select
    report_date,
    channel,
    language,
    category,
    local_hour,
    cast(sum(case when sender_type = 'user' then 1 else 0 end) as bigint) as user_messages,
    cast(sum(case when sender_type = 'bot' then 1 else 0 end) as bigint) as bot_messages,
    cast(sum(case when sender_type = 'agent' then 1 else 0 end) as bigint) as agent_messages,
    cast(sum(case when place_in_day = 1 then 1 else 0 end) as bigint) as conversations_active,
    cast(sum(
        case when side = 'user' and coalesce(previous_side <> side, true) then 1 else 0 end
    ) as bigint) as waits
from message
group by report_date, channel, language, category, local_hour

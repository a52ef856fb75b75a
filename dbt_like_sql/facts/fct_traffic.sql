-- Live counted messages by local hour, channel and language of the conversation. Every column is additive:
-- a conversation counts as active on a local day in the hour of its first message of that day.
with message as (
    select
        partition,
        conversation_id,
        sender_type,
        side,
        local_date,
        local_hour,
        local_isodow,
        turn_no,
        opens_turn,
        row_number() over (partition by partition, conversation_id, local_date order by message_no)
            as place_in_day
    from facts.stg_messages
    where is_counted and traffic_class = 'live'
)

select
    m.partition,
    m.local_date,
    m.local_hour,
    m.local_isodow,
    c.channel,
    c.language,
    cast(sum(case when m.sender_type = 'user' then 1 else 0 end) as bigint) as user_messages,
    cast(sum(case when m.sender_type = 'bot' then 1 else 0 end) as bigint) as bot_messages,
    cast(sum(case when m.sender_type = 'agent' then 1 else 0 end) as bigint) as agent_messages,
    cast(sum(case when m.opens_turn and m.turn_no = 1 then 1 else 0 end) as bigint)
        as conversations_started,
    cast(sum(case when m.place_in_day = 1 then 1 else 0 end) as bigint) as conversations_active,
    cast(sum(case when m.opens_turn and m.side = 'user' then 1 else 0 end) as bigint) as waits
from message as m
inner join facts.fct_conversation as c
    on m.partition = c.partition and m.conversation_id = c.conversation_id
group by m.partition, m.local_date, m.local_hour, m.local_isodow, c.channel, c.language

-- One row per local day: conversations and messages of live traffic.
select
    report_date,
    cast(sum(conversations_started) as bigint) as conversations_started,
    cast(sum(conversations_active) as bigint) as conversations_active,
    cast(sum(messages) as bigint) as messages,
    cast(sum(user_messages) as bigint) as user_messages,
    cast(sum(bot_messages) as bigint) as bot_messages,
    cast(sum(agent_messages) as bigint) as agent_messages,
    cast(sum(waits) as bigint) as waits
from marts.volume
group by report_date
order by report_date

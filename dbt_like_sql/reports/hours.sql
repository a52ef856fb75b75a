-- One row per local hour: live messages by sender, over the facts it is given.
select
    local_hour,
    cast(sum(user_messages) as bigint) as user_messages,
    cast(sum(bot_messages) as bigint) as bot_messages,
    cast(sum(agent_messages) as bigint) as agent_messages
from facts.fct_traffic
group by local_hour
order by local_hour

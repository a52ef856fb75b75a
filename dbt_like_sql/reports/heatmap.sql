-- One row per local weekday (1 is Monday) and hour: live messages of users.
select
    local_isodow,
    local_hour,
    cast(sum(user_messages) as bigint) as user_messages
from facts.fct_traffic
group by local_isodow, local_hour
order by local_isodow, local_hour

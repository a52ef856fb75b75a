-- One row per segment of users (recency, frequency, monetary): how many, and what they wrote.
select
    segment,
    count(*) as members,
    cast(sum(conversations) as bigint) as conversations,
    cast(sum(messages) as bigint) as messages,
    cast(sum(sessions) as bigint) as sessions
from marts.user
group by segment
order by count(*) desc, segment asc

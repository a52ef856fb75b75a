-- Who wrote: one row per local day, channel, language, category and user, who is told by a number alone: the
-- place among all users by their first day, then their id. Distinct users of any rows can be counted from it.
with member as (
    select
        user_id,
        min(local_date) as first_seen
    from facts.user_day
    group by user_id
),

numbered as (
    select
        user_id,
        row_number() over (order by first_seen, user_id) - 1 as user_no
    from member
)

select distinct
    m.local_date as report_date,
    f.channel,
    f.language,
    coalesce(f.category, 'not categorised') as category,
    n.user_no
from facts.stg_messages as m
inner join facts.fct_conversation as f
    on m.partition = f.partition and m.conversation_id = f.conversation_id
inner join numbered as n on m.user_id = n.user_id
where m.is_counted and m.traffic_class = 'live' and m.sender_type = 'user'

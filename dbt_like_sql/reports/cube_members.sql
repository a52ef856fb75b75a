-- One row per user who wrote, in order of their numbers in cube_users: first day, and the segment of
-- marts.user.
with member as (
    select
        user_id,
        min(local_date) as first_seen
    from facts.user_day
    group by user_id
)

select
    row_number() over (order by m.first_seen, m.user_id) - 1 as user_no,
    m.first_seen,
    coalesce(u.segment, 'new') as segment
from member as m
left join marts.user as u on m.user_id = u.user_id
order by m.first_seen, m.user_id

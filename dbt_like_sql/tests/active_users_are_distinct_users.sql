-- A local day whose users are not those who wrote, or a length of periods whose new users are not all users
-- that there are, or whose sessions are not all sessions.
with wrote as (
    select
        local_date as report_date,
        count(distinct user_id) as users
    from facts.user_day
    group by local_date
),

daily as (
    select *
    from marts.active_users
    where grain = 'day' and users > 0
),

everybody as (
    select count(distinct user_id) as users
    from facts.user_day
),

visit as (
    select count(*) as sessions
    from marts.session
),

broken_day as (
    select
        coalesce(w.report_date, d.report_date) as report_date,
        'day' as grain,
        w.users as expected,
        d.users as found
    from wrote as w
    full outer join daily as d on w.report_date = d.report_date
    where w.users is distinct from d.users
),

broken_new as (
    select
        max(a.report_date) as report_date,
        a.grain,
        max(e.users) as expected,
        sum(a.new_users) as found
    from marts.active_users as a
    cross join everybody as e
    cross join visit as v
    group by a.grain
    having sum(a.new_users) <> max(e.users) or sum(a.sessions) <> max(v.sessions)
),

broken_row as (
    select
        report_date,
        grain,
        users as expected,
        new_users + returning_users as found
    from marts.active_users
    where new_users + returning_users <> users or new_users < 0 or returning_users < 0
)

select * from broken_day
union all
select * from broken_new
union all
select * from broken_row

-- Distinct users who wrote, per local day, ISO week (its Monday) and month (its first), a row of zeros where
-- nobody did. New are those whose first message of all falls into the period, the others return. Distinct
-- users of a period are not the sum of its days', so each length has rows of its own.
with activity as (
    select distinct
        user_id,
        local_date
    from facts.user_day
),

first_day as (
    select
        user_id,
        min(local_date) as first_seen
    from activity
    group by user_id
),

bound as (
    select
        min(local_date) as first_date,
        max(local_date) as last_date
    from activity
),

day as (
    select cast(unnest(generate_series(first_date, last_date, interval 1 day)) as date) as local_date
    from bound
),

period as (
    select
        'day' as grain,
        local_date,
        local_date as report_date
    from day
    union all
    select
        'week' as grain,
        local_date,
        cast(date_trunc('week', local_date) as date) as report_date
    from day
    union all
    select
        'month' as grain,
        local_date,
        cast(date_trunc('month', local_date) as date) as report_date
    from day
),

active as (
    select
        p.grain,
        p.report_date,
        count(distinct a.user_id) as users
    from period as p
    left join activity as a on p.local_date = a.local_date
    group by p.grain, p.report_date
),

beginning as (
    select
        p.grain,
        p.report_date,
        count(*) as new_users
    from period as p
    inner join first_day as f on p.local_date = f.first_seen
    group by p.grain, p.report_date
),

visit as (
    select
        p.grain,
        p.report_date,
        count(*) as sessions
    from period as p
    inner join marts.session as s on p.local_date = s.report_date
    group by p.grain, p.report_date
)

select
    strftime(a.report_date, '%Y-%m') as month,
    a.grain,
    a.report_date,
    a.users,
    coalesce(b.new_users, 0) as new_users,
    a.users - coalesce(b.new_users, 0) as returning_users,
    coalesce(v.sessions, 0) as sessions
from active as a
left join beginning as b on a.grain = b.grain and a.report_date = b.report_date
left join visit as v on a.grain = v.grain and a.report_date = v.report_date

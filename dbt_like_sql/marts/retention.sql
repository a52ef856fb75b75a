-- Users of a cohort who wrote k weeks (or months) after the one they first wrote in; a row for every k up to
-- the last period with a message, zeros too, so the rows of a length make a triangle. k = 0 holds the cohort.
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

active as (
    select distinct
        'week' as grain,
        f.user_id,
        cast(date_trunc('week', f.first_seen) as date) as cohort_date,
        cast(date_trunc('week', a.local_date) as date) as period_date
    from first_day as f
    inner join activity as a on f.user_id = a.user_id
    union all
    select distinct
        'month' as grain,
        f.user_id,
        cast(date_trunc('month', f.first_seen) as date) as cohort_date,
        cast(date_trunc('month', a.local_date) as date) as period_date
    from first_day as f
    inner join activity as a on f.user_id = a.user_id
),

retained as (
    select
        grain,
        cohort_date,
        period_date,
        count(*) as retained
    from active
    group by grain, cohort_date, period_date
),

cohort as (
    select
        grain,
        cohort_date,
        retained as users
    from retained
    where cohort_date = period_date
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
    select distinct
        'week' as grain,
        cast(date_trunc('week', local_date) as date) as period_date
    from day
    union all
    select distinct
        'month' as grain,
        cast(date_trunc('month', local_date) as date) as period_date
    from day
),

last_period as (
    select
        grain,
        max(period_date) as last_date
    from period
    group by grain
)

select
    c.grain,
    c.cohort_date,
    case
        when c.grain = 'week' then date_diff('day', c.cohort_date, p.period_date) // 7
        else date_diff('month', c.cohort_date, p.period_date)
    end as k,
    c.users,
    coalesce(r.retained, 0) as retained,
    p.period_date < l.last_date as is_settled
from cohort as c
inner join period as p on c.grain = p.grain
inner join last_period as l on c.grain = l.grain
left join retained as r
    on c.grain = r.grain and c.cohort_date = r.cohort_date and p.period_date = r.period_date
where p.period_date >= c.cohort_date

-- A length of periods whose cohorts do not hold every user once, or a cohort that is not kept whole at k = 0,
-- that keeps more users than it has, or that lacks a period up to the last.
with everybody as (
    select count(distinct user_id) as users
    from facts.user_day
),

cohort as (
    select
        grain,
        cohort_date,
        max(users) as users,
        max(case when k = 0 then retained end) as begun,
        max(retained) as most,
        min(k) as first_k,
        max(k) as last_k,
        count(*) as periods,
        count(distinct users) as sizes
    from marts.retention
    group by grain, cohort_date
),

broken_cohort as (
    select
        grain,
        cohort_date
    from cohort
    where begun is distinct from users or most > users or first_k <> 0 or periods <> last_k + 1 or sizes <> 1
),

broken_sum as (
    select
        c.grain,
        max(c.cohort_date) as cohort_date
    from cohort as c
    cross join everybody as e
    group by c.grain
    having sum(c.users) <> max(e.users)
)

select * from broken_cohort
union all
select * from broken_sum

-- One row per session of a user who wrote: stretches of all days, joined where each begins no longer than
-- $session_gap_us after the latest end of those before it. A session belongs to the local day it began on,
-- also where it crosses midnight. Instants in microseconds (UTC), durations in seconds.
with stretch as (
    select
        user_id,
        partition,
        local_date,
        stretch_no,
        started_us,
        ended_us,
        messages,
        max(ended_us) over (
            partition by user_id
            order by started_us, partition, local_date, stretch_no
            rows between unbounded preceding and current row
        ) as latest_us
    from facts.user_day
),

followed as (
    select
        user_id,
        partition,
        local_date,
        stretch_no,
        started_us,
        ended_us,
        messages,
        lag(latest_us) over (
            partition by user_id order by started_us, partition, local_date, stretch_no
        ) as previous_us
    from stretch
),

numbered as (
    select
        user_id,
        local_date,
        started_us,
        ended_us,
        messages,
        cast(sum(
            case when previous_us is null or started_us - previous_us > $session_gap_us then 1 else 0 end
        ) over (
            partition by user_id
            order by started_us, partition, local_date, stretch_no
            rows between unbounded preceding and current row
        ) as bigint) as session_no
    from followed
),

session as (
    select
        user_id,
        session_no,
        min(local_date) as report_date,
        min(started_us) as started_us,
        max(ended_us) as ended_us,
        cast(sum(messages) as bigint) as messages
    from numbered
    group by user_id, session_no
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    user_id,
    session_no,
    started_us,
    ended_us,
    (ended_us - started_us) / 1e6 as duration_s,
    messages
from session

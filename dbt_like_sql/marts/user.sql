-- One row per user who wrote. Sessions join the stretches of all days: one begins where every earlier stretch
-- ended longer than $session_gap_us ago. Quintiles break ties by user_id, so they never depend on the order
-- of rows. Recency and the 90 days (7776000000000 us) count from $as_of_us.
with stretch as (
    select
        user_id,
        partition,
        local_date,
        stretch_no,
        started_us,
        ended_us,
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
        lag(latest_us) over (
            partition by user_id order by started_us, partition, local_date, stretch_no
        ) as previous_us
    from stretch
),

numbered as (
    select
        user_id,
        started_us,
        ended_us,
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
        max(ended_us) - min(started_us) as duration_us
    from numbered
    group by user_id, session_no
),

session_total as (
    select
        user_id,
        count(*) as sessions,
        cast(sum(duration_us) as bigint) as duration_us
    from session
    group by user_id
),

activity as (
    select
        user_id,
        min(local_date) as first_seen,
        max(local_date) as last_seen,
        count(distinct local_date) as days_active,
        cast(sum(messages) as bigint) as messages,
        max(ended_us) as last_us
    from facts.user_day
    group by user_id
),

language_use as (
    select
        user_id,
        language,
        cast(sum(messages) as bigint) as messages
    from facts.user_day
    group by user_id, language
),

language_rank as (
    select
        user_id,
        language,
        row_number() over (partition by user_id order by messages desc, language asc) as place
    from language_use
),

conversation_total as (
    select
        user_id,
        count(*) as conversations,
        cast(sum(case when first_user_at_us > $as_of_us - 7776000000000 then 1 else 0 end) as bigint)
            as frequency_90d
    from facts.fct_conversation
    where is_counted and user_messages > 0
    group by user_id
),

measured as (
    select
        a.user_id,
        a.first_seen,
        a.last_seen,
        a.days_active,
        c.conversations,
        a.messages,
        s.sessions,
        s.duration_us / 1e6 / s.sessions as avg_session_s,
        l.language as preferred_language,
        case when $as_of_us > a.last_us then ($as_of_us - a.last_us) // 86400000000 else 0 end
            as recency_days,
        c.frequency_90d,
        a.messages as monetary,
        a.last_us
    from activity as a
    inner join conversation_total as c on a.user_id = c.user_id
    inner join session_total as s on a.user_id = s.user_id
    inner join language_rank as l on a.user_id = l.user_id and l.place = 1
),

scored as (
    select
        *,
        ntile(5) over (order by last_us, user_id) as r,
        ntile(5) over (order by frequency_90d, user_id) as f,
        ntile(5) over (order by monetary, user_id) as m
    from measured
)

select
    user_id,
    first_seen,
    last_seen,
    days_active,
    conversations,
    messages,
    sessions,
    avg_session_s,
    preferred_language,
    recency_days,
    frequency_90d,
    monetary,
    r,
    f,
    m,
    case
        when r >= 4 and f >= 4 then 'champion'
        when r >= 3 and f >= 3 then 'loyal'
        when r >= 4 and conversations = 1 then 'new'
        when r >= 3 then 'promising'
        when f >= 3 then 'at_risk'
        else 'hibernating'
    end as segment
from scored

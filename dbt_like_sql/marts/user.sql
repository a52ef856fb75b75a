-- One row per user who wrote. Quintiles, languages and categories break ties by name or user_id, so they
-- never depend on the order of rows. Recency and the 90 days (7776000000000 us) count from $as_of_us.
-- Satisfaction, categories and cost are those of the conversations in which the user wrote.
with session_total as (
    select
        user_id,
        count(*) as sessions,
        cast(sum(ended_us - started_us) as bigint) as duration_us
    from marts.session
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

active_day as (
    select distinct
        user_id,
        local_date
    from facts.user_day
),

followed_day as (
    select
        user_id,
        local_date,
        lag(local_date) over (partition by user_id order by local_date) as previous_date
    from active_day
),

habit as (
    select
        user_id,
        quantile_cont(date_diff('day', previous_date, local_date), 0.9) as gap_p90_days
    from followed_day
    where previous_date is not null
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

conversation as (
    select
        user_id,
        category,
        first_user_at_us,
        csat_score,
        tokens,
        llm_cost
    from facts.fct_conversation
    where is_counted and user_messages > 0
),

conversation_total as (
    select
        user_id,
        count(*) as conversations,
        cast(sum(case when first_user_at_us > $as_of_us - 7776000000000 then 1 else 0 end) as bigint)
            as frequency_90d,
        count(csat_score) as csat_answered,
        cast(sum(case when csat_score >= 4 then 1 else 0 end) as bigint) as csat_positive,
        cast(sum(tokens) as bigint) as tokens,
        cast(sum(llm_cost) as decimal(18, 8)) as price
    from conversation
    group by user_id
),

category_use as (
    select
        user_id,
        category,
        count(*) as conversations
    from conversation
    where category is not null
    group by user_id, category
),

category_rank as (
    select
        user_id,
        category,
        row_number() over (partition by user_id order by conversations desc, category asc) as place
    from category_use
),

category_top as (
    select
        user_id,
        max(case when place = 1 then category end) as category_1,
        max(case when place = 2 then category end) as category_2,
        max(case when place = 3 then category end) as category_3
    from category_rank
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
        k.category_1,
        k.category_2,
        k.category_3,
        case when $as_of_us > a.last_us then ($as_of_us - a.last_us) // 86400000000 else 0 end
            as recency_days,
        h.gap_p90_days,
        c.frequency_90d,
        a.messages as monetary,
        c.csat_answered,
        c.csat_positive,
        c.tokens,
        c.price,
        a.last_us
    from activity as a
    inner join conversation_total as c on a.user_id = c.user_id
    inner join session_total as s on a.user_id = s.user_id
    inner join language_rank as l on a.user_id = l.user_id and l.place = 1
    left join habit as h on a.user_id = h.user_id
    left join category_top as k on a.user_id = k.user_id
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
    category_1,
    category_2,
    category_3,
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
    end as segment,
    gap_p90_days,
    recency_days > gap_p90_days as churn_risk,
    csat_answered,
    csat_positive,
    tokens,
    price
from scored

-- A user whose sessions do not hold exactly the live messages the user wrote, whose sessions are not numbered
-- from 1, or with two sessions no further apart than SESSION_GAP_MINUTES.
with written as (
    select
        user_id,
        cast(sum(user_messages) as bigint) as messages
    from facts.fct_conversation
    where is_counted and user_messages > 0
    group by user_id
),

followed as (
    select
        *,
        lag(ended_us) over (partition by user_id order by session_no) as previous_us
    from marts.session
),

held as (
    select
        user_id,
        cast(sum(messages) as bigint) as messages,
        count(*) as sessions,
        min(session_no) as first_no,
        max(session_no) as last_no,
        sum(case when started_us - previous_us <= $session_gap_us then 1 else 0 end) as too_near,
        sum(case when ended_us < started_us or messages < 1 then 1 else 0 end) as broken
    from followed
    group by user_id
)

select
    coalesce(w.user_id, h.user_id) as user_id,
    w.messages,
    h.messages as session_messages,
    h.sessions,
    h.too_near
from written as w
full outer join held as h on w.user_id = h.user_id
where
    w.messages is distinct from h.messages
    or h.first_no <> 1
    or h.last_no <> h.sessions
    or h.too_near > 0
    or h.broken > 0

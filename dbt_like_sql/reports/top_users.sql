-- The twenty users with the most conversations; ids are keyed hashes. Ties are broken by messages, then id.
select
    user_id,
    conversations,
    messages,
    sessions,
    days_active,
    first_seen,
    last_seen,
    preferred_language,
    segment
from marts.user
order by conversations desc, messages desc, user_id asc
limit 20

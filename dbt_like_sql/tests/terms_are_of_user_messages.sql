-- A partition, local day, channel and language with terms and without a user's message, or with a term that
-- is in more messages than there are, or oftener in messages than it occurs.
with written as (
    select
        partition,
        local_date,
        channel,
        language,
        count(*) as messages
    from facts.stg_messages
    where is_counted and traffic_class = 'live' and sender_type = 'user'
    group by partition, local_date, channel, language
)

select
    t.partition,
    t.local_date,
    t.channel,
    t.language,
    t.term,
    t.messages,
    w.messages as written
from facts.fct_term as t
left join written as w
    on
        t.partition = w.partition
        and t.local_date = w.local_date
        and t.channel = w.channel
        and t.language = w.language
where
    w.messages is null
    or t.messages > w.messages
    or t.messages > t.occurrences
    or t.messages < 1
    or t.term = ''

-- A clock, channel, language and hours whose answered or open waits are not those of the facts.
with mart_total as (
    select
        channel,
        language,
        clock,
        hours,
        cast(sum(n) as bigint) as n,
        cast(sum(n_open) as bigint) as n_open
    from marts.response
    where clock in ('reply', 'first')
    group by channel, language, clock, hours
),

fact_total as (
    select
        channel,
        language,
        'reply' as clock,
        'calendar' as hours,
        count(replied_at_us) as n,
        count(*) - count(replied_at_us) as n_open
    from facts.fct_wait
    where traffic_class = 'live'
    group by channel, language
    union all
    select
        channel,
        language,
        'reply' as clock,
        'business' as hours,
        count(reply_bh_s) as n,
        count(*) - count(reply_bh_s) as n_open
    from facts.fct_wait
    where traffic_class = 'live' and waiting_since_business_us is not null
    group by channel, language
    union all
    select
        channel,
        language,
        'first' as clock,
        'calendar' as hours,
        count(first_response_s) as n,
        count(*) - count(first_response_s) as n_open
    from facts.fct_conversation
    where is_counted and first_user_at_us is not null
    group by channel, language
    union all
    select
        channel,
        language,
        'first' as clock,
        'business' as hours,
        count(first_response_bh_s) as n,
        count(*) - count(first_response_bh_s) as n_open
    from facts.fct_conversation
    where is_counted and first_user_business_us is not null
    group by channel, language
)

select
    coalesce(f.channel, m.channel) as channel,
    coalesce(f.language, m.language) as language,
    coalesce(f.clock, m.clock) as clock,
    coalesce(f.hours, m.hours) as hours,
    f.n,
    m.n as mart_n,
    f.n_open,
    m.n_open as mart_n_open
from fact_total as f
full outer join mart_total as m
    on f.channel = m.channel and f.language = m.language and f.clock = m.clock and f.hours = m.hours
where f.n is distinct from m.n or f.n_open is distinct from m.n_open

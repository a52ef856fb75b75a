-- A clock, channel and language whose answered or open waits are not those of the facts.
with mart_total as (
    select
        channel,
        language,
        clock,
        cast(sum(n) as bigint) as n,
        cast(sum(n_open) as bigint) as n_open
    from marts.response
    group by channel, language, clock
),

fact_total as (
    select
        channel,
        language,
        'reply' as clock,
        count(replied_at_us) as n,
        count(*) - count(replied_at_us) as n_open
    from facts.fct_wait
    where traffic_class = 'live'
    group by channel, language
    union all
    select
        channel,
        language,
        'first' as clock,
        count(first_response_s) as n,
        count(first_user_at_us) - count(first_response_s) as n_open
    from facts.fct_conversation
    where is_counted and first_user_at_us is not null
    group by channel, language
)

select
    f.channel,
    f.language,
    f.clock,
    f.n,
    m.n as mart_n,
    f.n_open,
    m.n_open as mart_n_open
from fact_total as f
left join mart_total as m on f.channel = m.channel and f.language = m.language and f.clock = m.clock
where f.n is distinct from m.n or f.n_open is distinct from m.n_open

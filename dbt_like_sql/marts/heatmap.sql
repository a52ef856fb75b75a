-- Traffic by local day of the week and hour, per month, channel and language; a row of zeros for every hour
-- of the week that occurred in the month and every pair of channel and language that ever occurs. `hours` is
-- how many hours of that kind the clocks showed between the first and the last day with traffic, so that
-- messages / hours is what to expect of one, in months of 23 and 25 hour days too. Replies in seconds.
with occurred as (
    select
        month,
        local_isodow,
        local_hour,
        cast(sum(seconds) as bigint) / 3600 as hours
    from marts.local_hour
    group by month, local_isodow, local_hour
),

traffic_hour as (
    select
        strftime(local_date, '%Y-%m') as month,
        local_isodow,
        local_hour,
        channel,
        language,
        user_messages,
        bot_messages,
        agent_messages,
        conversations_started,
        waits
    from facts.fct_traffic
),

traffic as (
    select
        month,
        local_isodow,
        local_hour,
        channel,
        language,
        cast(sum(user_messages + bot_messages + agent_messages) as bigint) as messages,
        cast(sum(user_messages) as bigint) as user_messages,
        cast(sum(conversations_started) as bigint) as conversations,
        cast(sum(waits) as bigint) as waits
    from traffic_hour
    group by month, local_isodow, local_hour, channel, language
),

wait as (
    select
        strftime(local_date, '%Y-%m') as month,
        local_isodow,
        local_hour,
        channel,
        language,
        reply_s,
        case when replied_at_us >= waiting_since_us then replied_at_us - waiting_since_us end as reply_us
    from facts.fct_wait
    where traffic_class = 'live'
),

reply as (
    select
        month,
        local_isodow,
        local_hour,
        channel,
        language,
        count(reply_us) as reply_n,
        cast(sum(reply_us) as bigint) / 1e6 as reply_sum_s,
        quantile_cont(reply_s, 0.5) as reply_p50_s,
        quantile_cont(reply_s, 0.9) as reply_p90_s
    from wait
    group by month, local_isodow, local_hour, channel, language
),

pair as (
    select distinct
        channel,
        language
    from traffic
)

select
    o.month,
    o.local_isodow,
    o.local_hour,
    p.channel,
    p.language,
    o.hours,
    coalesce(t.messages, 0) as messages,
    coalesce(t.user_messages, 0) as user_messages,
    coalesce(t.conversations, 0) as conversations,
    coalesce(t.waits, 0) as waits,
    coalesce(r.reply_n, 0) as reply_n,
    r.reply_sum_s,
    r.reply_p50_s,
    r.reply_p90_s
from occurred as o
cross join pair as p
left join traffic as t
    on
        o.month = t.month
        and o.local_isodow = t.local_isodow
        and o.local_hour = t.local_hour
        and p.channel = t.channel
        and p.language = t.language
left join reply as r
    on
        o.month = r.month
        and o.local_isodow = r.local_isodow
        and o.local_hour = r.local_hour
        and p.channel = r.channel
        and p.language = r.language

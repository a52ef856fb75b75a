-- Traffic per local day, channel and language, with a row of zeros for every day between the first and the
-- last and every pair of channel and language that ever occurs, so that a chart shows a quiet day as quiet.
with daily as (
    select
        local_date as report_date,
        channel,
        language,
        cast(sum(conversations_started) as bigint) as conversations_started,
        cast(sum(conversations_active) as bigint) as conversations_active,
        cast(sum(user_messages) as bigint) as user_messages,
        cast(sum(bot_messages) as bigint) as bot_messages,
        cast(sum(agent_messages) as bigint) as agent_messages,
        cast(sum(waits) as bigint) as waits
    from facts.fct_traffic
    group by local_date, channel, language
),

bound as (
    select
        min(report_date) as first_date,
        max(report_date) as last_date
    from daily
),

day as (
    select cast(unnest(generate_series(first_date, last_date, interval 1 day)) as date) as report_date
    from bound
),

pair as (
    select distinct
        channel,
        language
    from daily
)

select
    strftime(s.report_date, '%Y-%m') as month,
    s.report_date,
    p.channel,
    p.language,
    coalesce(d.conversations_started, 0) as conversations_started,
    coalesce(d.conversations_active, 0) as conversations_active,
    coalesce(d.user_messages, 0) + coalesce(d.bot_messages, 0) + coalesce(d.agent_messages, 0) as messages,
    coalesce(d.user_messages, 0) as user_messages,
    coalesce(d.bot_messages, 0) as bot_messages,
    coalesce(d.agent_messages, 0) as agent_messages,
    coalesce(d.waits, 0) as waits
from day as s
cross join pair as p
left join daily as d
    on s.report_date = d.report_date and p.channel = d.channel and p.language = d.language

-- Traffic per local day, channel and language, with a row of zeros for every day between the first and the
-- last and every pair of channel and language that ever occurs, so that a chart shows a quiet day as quiet.
-- The backlog at the end of a day is the sum of all openings less closings up to it.
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

conversation as (
    select
        partition,
        conversation_id,
        channel,
        language,
        first_message_date,
        case when closed_date < first_message_date then first_message_date else closed_date end as closed_date
    from facts.fct_conversation
    where is_counted and not is_empty
),

-- a conversation is open from its first message on, and then what its last change of status says
change as (
    select
        partition,
        conversation_id,
        channel,
        language,
        first_message_date as changed_on,
        cast(0 as bigint) as place,
        1 as is_open
    from conversation
    union all
    select
        partition,
        conversation_id,
        channel,
        language,
        closed_date as changed_on,
        cast(1 as bigint) as place,
        0 as is_open
    from conversation
    where closed_date is not null
    union all
    select
        c.partition,
        c.conversation_id,
        c.channel,
        c.language,
        case when e.local_date < c.first_message_date then c.first_message_date else e.local_date end
            as changed_on,
        e.event_no as place,
        case when e.to_status in ('resolved', 'abandoned') then 0 else 1 end as is_open
    from facts.fct_status_event as e
    inner join conversation as c on e.partition = c.partition and e.conversation_id = c.conversation_id
),

ranked as (
    select
        *,
        row_number() over (partition by partition, conversation_id, changed_on order by place desc) as back
    from change
),

standing as (
    select
        changed_on,
        channel,
        language,
        is_open,
        lag(is_open) over (partition by partition, conversation_id order by changed_on) as was_open
    from ranked
    where back = 1
),

backlog as (
    select
        changed_on as report_date,
        channel,
        language,
        cast(sum(is_open - coalesce(was_open, 0)) as bigint) as opened
    from standing
    group by changed_on, channel, language
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
),

filled as (
    select
        s.report_date,
        p.channel,
        p.language,
        coalesce(d.conversations_started, 0) as conversations_started,
        coalesce(d.conversations_active, 0) as conversations_active,
        coalesce(d.user_messages, 0) as user_messages,
        coalesce(d.bot_messages, 0) as bot_messages,
        coalesce(d.agent_messages, 0) as agent_messages,
        coalesce(d.waits, 0) as waits,
        coalesce(b.opened, 0) as opened
    from day as s
    cross join pair as p
    left join daily as d
        on s.report_date = d.report_date and p.channel = d.channel and p.language = d.language
    left join backlog as b
        on s.report_date = b.report_date and p.channel = b.channel and p.language = b.language
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    conversations_started,
    conversations_active,
    user_messages + bot_messages + agent_messages as messages,
    user_messages,
    bot_messages,
    agent_messages,
    waits,
    cast(sum(opened) over (
        partition by channel, language
        order by report_date rows between unbounded preceding and current row
    ) as bigint) as backlog_open
from filled

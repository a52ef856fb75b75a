-- What agents and bots did, per local day. Messages, transfers and active time count on the day they
-- happened, waits on the day they began, a conversation on the day of that one's first message in it;
-- resolutions and answers to the survey on the day of the conversation's first counted message, as elsewhere.
-- Three counts of resolutions stand side by side: resolves, each credited to whom its event names;
-- conversations, each to whom its last event names (resolutions); their users. Where no event names anybody,
-- the last agent who wrote has the credit, else the last bot.
-- A conversation is open with someone, on a day, from their first to their last message of that day in it.
-- Shares are summed as whole 720,720ths, the least that 1 to 16 all divide, so no order of rows changes them.
with message as (
    select
        partition,
        conversation_id,
        message_no,
        sender_type as agent_type,
        coalesce(sender_id, 'unknown') as agent_id,
        created_us,
        local_date as report_date,
        lag(created_us) over (partition by partition, conversation_id order by message_no) as previous_us
    from facts.stg_messages
    where is_counted and traffic_class = 'live'
),

written as (
    select
        partition,
        conversation_id,
        message_no,
        agent_type,
        agent_id,
        created_us,
        report_date,
        case
            when created_us - previous_us > 300000000 then 300000000
            when created_us >= previous_us then created_us - previous_us
            else 0
        end as active_us,
        row_number() over (
            partition by partition, conversation_id, agent_type, agent_id order by message_no
        ) as place,
        lag(agent_id) over (partition by partition, conversation_id, agent_type order by message_no)
            as previous_agent_id
    from message
    where agent_type in ('agent', 'bot')
),

work as (
    select
        report_date,
        agent_type,
        agent_id,
        count(*) as messages,
        cast(sum(active_us) as bigint) / 1e6 as active_s
    from written
    group by report_date, agent_type, agent_id
),

-- each conversation once for everyone who wrote in it
involved as (
    select
        partition,
        conversation_id,
        agent_type,
        count(*) as involved
    from written
    where place = 1
    group by partition, conversation_id, agent_type
),

touched as (
    select
        w.report_date,
        w.agent_type,
        w.agent_id,
        count(*) as conversations,
        cast(sum(cast(floor(720720 / i.involved) as bigint)) as bigint) / 720720 as conversation_share
    from written as w
    inner join involved as i
        on
            w.partition = i.partition
            and w.conversation_id = i.conversation_id
            and w.agent_type = i.agent_type
    where w.place = 1
    group by w.report_date, w.agent_type, w.agent_id
),

transfer as (
    select
        report_date,
        agent_type,
        agent_id,
        1 as transfers_in,
        0 as transfers_out
    from written
    where agent_type = 'agent' and previous_agent_id <> agent_id
    union all
    select
        report_date,
        agent_type,
        previous_agent_id as agent_id,
        0 as transfers_in,
        1 as transfers_out
    from written
    where agent_type = 'agent' and previous_agent_id <> agent_id
),

transferred as (
    select
        report_date,
        agent_type,
        agent_id,
        cast(sum(transfers_in) as bigint) as transfers_in,
        cast(sum(transfers_out) as bigint) as transfers_out
    from transfer
    group by report_date, agent_type, agent_id
),

span as (
    select
        report_date,
        agent_type,
        agent_id,
        partition,
        conversation_id,
        min(created_us) as opened_us,
        max(created_us) as closed_us
    from written
    group by report_date, agent_type, agent_id, partition, conversation_id
),

-- of one instant those that open come first: a conversation of one message is open, too
edge as (
    select
        report_date,
        agent_type,
        agent_id,
        partition,
        conversation_id,
        opened_us as at_us,
        0 as closes,
        1 as step
    from span
    union all
    select
        report_date,
        agent_type,
        agent_id,
        partition,
        conversation_id,
        closed_us as at_us,
        1 as closes,
        -1 as step
    from span
),

load as (
    select
        report_date,
        agent_type,
        agent_id,
        cast(sum(step) over (
            partition by report_date, agent_type, agent_id
            order by at_us, closes, partition, conversation_id
            rows between unbounded preceding and current row
        ) as bigint) as concurrent
    from edge
),

busy as (
    select
        report_date,
        agent_type,
        agent_id,
        max(concurrent) as concurrent_max
    from load
    group by report_date, agent_type, agent_id
),

opened as (
    select
        report_date,
        agent_type,
        agent_id,
        count(*) as conversations_active
    from span
    group by report_date, agent_type, agent_id
),

wait as (
    select
        local_date as report_date,
        replier_type as agent_type,
        coalesce(replier_id, 'unknown') as agent_id,
        reply_s,
        case when replied_at_us >= waiting_since_us then replied_at_us - waiting_since_us end as reply_us
    from facts.fct_wait
    where traffic_class = 'live' and replied_at_us is not null
),

replied as (
    select
        report_date,
        agent_type,
        agent_id,
        count(*) as waits_answered,
        cast(sum(reply_us) as bigint) / 1e6 as reply_sum_s,
        quantile_cont(reply_s, 0.5) as reply_p50_s,
        quantile_cont(reply_s, 0.9) as reply_p90_s
    from wait
    group by report_date, agent_type, agent_id
),

-- who an actor of a status event is; one who never wrote is an agent if a conversation was assigned to them
person as (
    select distinct agent_id
    from written
    where agent_type = 'agent'
    union all
    select distinct agent_id
    from facts.fct_conversation
    where is_counted and agent_id is not null
),

agent_name as (
    select distinct agent_id
    from person
),

bot_name as (
    select distinct agent_id
    from written
    where agent_type = 'bot'
),

last_bot_no as (
    select
        partition,
        conversation_id,
        max(message_no) as message_no
    from written
    where agent_type = 'bot'
    group by partition, conversation_id
),

last_bot as (
    select
        w.partition,
        w.conversation_id,
        w.agent_id
    from written as w
    inner join last_bot_no as n
        on w.partition = n.partition and w.conversation_id = n.conversation_id and w.message_no = n.message_no
),

concluded as (
    select
        c.partition,
        c.conversation_id,
        c.first_message_date as report_date,
        c.user_id,
        c.resolves,
        c.is_undone,
        c.csat_score,
        case when c.agent_messages > 0 then 'agent' when c.bot_messages > 0 then 'bot' else 'other' end
            as last_type,
        case
            when c.agent_messages > 0 then coalesce(c.last_agent_id, 'unknown')
            when c.bot_messages > 0 then b.agent_id
            else 'other'
        end as last_id
    from facts.fct_conversation as c
    left join last_bot as b on c.partition = b.partition and c.conversation_id = b.conversation_id
    where c.is_counted and not c.is_empty
),

-- where the source keeps no events, the one resolve has no actor: a row of its conversation alone
resolved as (
    select
        c.report_date,
        c.user_id,
        c.is_undone,
        coalesce(r.resolve_no = c.resolves, true) as is_last,
        case
            when r.actor is null then c.last_type
            when p.agent_id is not null then 'agent'
            when o.agent_id is not null then 'bot'
            else 'other'
        end as agent_type,
        case
            when r.actor is null then c.last_id
            when p.agent_id is not null or o.agent_id is not null then r.actor
            else 'other'
        end as agent_id
    from concluded as c
    left join facts.fct_status_event as r
        on c.partition = r.partition and c.conversation_id = r.conversation_id and r.to_status = 'resolved'
    left join agent_name as p on r.actor = p.agent_id
    left join bot_name as o on r.actor = o.agent_id
    where c.resolves > 0
),

credit as (
    select
        report_date,
        agent_type,
        agent_id,
        1 as resolution_events,
        case when is_last then 1 else 0 end as resolutions,
        case when is_last then user_id end as resolved_user_id,
        case when is_last and is_undone then 1 else 0 end as undone,
        0 as csat_answered,
        0 as csat_positive
    from resolved
    union all
    select
        report_date,
        last_type as agent_type,
        last_id as agent_id,
        0 as resolution_events,
        0 as resolutions,
        cast(null as varchar) as resolved_user_id,
        0 as undone,
        1 as csat_answered,
        case when csat_score >= 4 then 1 else 0 end as csat_positive
    from concluded
    where csat_score is not null
),

credited as (
    select
        report_date,
        agent_type,
        agent_id,
        cast(sum(resolution_events) as bigint) as resolution_events,
        cast(sum(resolutions) as bigint) as resolutions,
        count(distinct resolved_user_id) as resolution_users,
        cast(sum(undone) as bigint) as undone,
        cast(sum(csat_answered) as bigint) as csat_answered,
        cast(sum(csat_positive) as bigint) as csat_positive
    from credit
    group by report_date, agent_type, agent_id
),

named as (
    select
        report_date,
        agent_type,
        agent_id
    from work
    union all
    select
        report_date,
        agent_type,
        agent_id
    from transferred
    union all
    select
        report_date,
        agent_type,
        agent_id
    from replied
    union all
    select
        report_date,
        agent_type,
        agent_id
    from credited
),

staff as (
    select distinct
        report_date,
        agent_type,
        agent_id
    from named
)

select
    strftime(s.report_date, '%Y-%m') as month,
    s.report_date,
    s.agent_type,
    s.agent_id,
    coalesce(t.conversations, 0) as conversations,
    coalesce(t.conversation_share, 0) as conversation_share,
    coalesce(o.conversations_active, 0) as conversations_active,
    coalesce(w.messages, 0) as messages,
    coalesce(r.waits_answered, 0) as waits_answered,
    r.reply_sum_s,
    r.reply_p50_s,
    r.reply_p90_s,
    coalesce(x.transfers_in, 0) as transfers_in,
    coalesce(x.transfers_out, 0) as transfers_out,
    coalesce(c.resolution_events, 0) as resolution_events,
    coalesce(c.resolutions, 0) as resolutions,
    coalesce(c.resolution_users, 0) as resolution_users,
    coalesce(c.undone, 0) as undone,
    coalesce(c.csat_answered, 0) as csat_answered,
    coalesce(c.csat_positive, 0) as csat_positive,
    coalesce(b.concurrent_max, 0) as concurrent_max,
    coalesce(w.active_s, 0) as active_s
from staff as s
left join work as w
    on s.report_date = w.report_date and s.agent_type = w.agent_type and s.agent_id = w.agent_id
left join touched as t
    on s.report_date = t.report_date and s.agent_type = t.agent_type and s.agent_id = t.agent_id
left join opened as o
    on s.report_date = o.report_date and s.agent_type = o.agent_type and s.agent_id = o.agent_id
left join busy as b
    on s.report_date = b.report_date and s.agent_type = b.agent_type and s.agent_id = b.agent_id
left join replied as r
    on s.report_date = r.report_date and s.agent_type = r.agent_type and s.agent_id = r.agent_id
left join transferred as x
    on s.report_date = x.report_date and s.agent_type = x.agent_type and s.agent_id = x.agent_id
left join credited as c
    on s.report_date = c.report_date and s.agent_type = c.agent_type and s.agent_id = c.agent_id

-- A local day and kind of staff whose marts of agents do not add up to the messages, answered waits,
-- resolves, resolved and rated conversations of the facts, or whose parts are larger than the whole.
with part as (
    select
        local_date as report_date,
        sender_type as agent_type,
        count(*) as messages,
        0 as waits,
        0 as resolves,
        0 as resolutions,
        0 as rated
    from facts.stg_messages
    where is_counted and traffic_class = 'live' and side = 'staff'
    group by local_date, sender_type
    union all
    select
        local_date as report_date,
        replier_type as agent_type,
        0 as messages,
        count(*) as waits,
        0 as resolves,
        0 as resolutions,
        0 as rated
    from facts.fct_wait
    where traffic_class = 'live' and replied_at_us is not null
    group by local_date, replier_type
    union all
    -- who resolved and who is credited is the mart's to say: these add up over all kinds
    select
        first_message_date as report_date,
        'all' as agent_type,
        0 as messages,
        0 as waits,
        sum(resolves) as resolves,
        sum(case when resolves > 0 then 1 else 0 end) as resolutions,
        count(csat_score) as rated
    from facts.fct_conversation
    where is_counted and not is_empty
    group by first_message_date
    union all
    select
        report_date,
        agent_type,
        -messages as messages,
        -waits_answered as waits,
        0 as resolves,
        0 as resolutions,
        0 as rated
    from marts.agent
    union all
    select
        report_date,
        'all' as agent_type,
        0 as messages,
        0 as waits,
        -resolution_events as resolves,
        -resolutions as resolutions,
        -csat_answered as rated
    from marts.agent
),

broken_sum as (
    select
        report_date,
        agent_type,
        'the sum differs from the facts' as problem
    from part
    group by report_date, agent_type
    having
        sum(messages) <> 0
        or sum(waits) <> 0
        or sum(resolves) <> 0
        or sum(resolutions) <> 0
        or sum(rated) <> 0
),

broken_transfer as (
    select
        report_date,
        'agent' as agent_type,
        'transfers in are not transfers out' as problem
    from marts.agent
    group by report_date
    having sum(transfers_in) <> sum(transfers_out)
),

mart_share as (
    select
        agent_type,
        sum(conversation_share) as conversations
    from marts.agent
    group by agent_type
),

-- while a conversation that moved is refreshed on one of its two days alone, it stands in both
staffed as (
    select distinct
        partition,
        conversation_id,
        sender_type as agent_type
    from facts.stg_messages
    where is_counted and traffic_class = 'live' and side = 'staff'
),

fact_share as (
    select
        agent_type,
        count(*) as conversations
    from staffed
    group by agent_type
),

-- up to 16 to a conversation the shares are exact
broken_share as (
    select
        cast(null as date) as report_date,
        m.agent_type,
        'the shares are not the conversations' as problem
    from mart_share as m
    inner join fact_share as f on m.agent_type = f.agent_type
    where abs(m.conversations - f.conversations) > 0.0001 * f.conversations
),

broken_row as (
    select
        report_date,
        agent_type,
        'a part is larger than the whole' as problem
    from marts.agent
    where
        undone > resolutions
        or resolutions > resolution_events
        or resolution_users > resolutions
        or (resolutions > 0 and resolution_users < 1)
        or csat_positive > csat_answered
        or concurrent_max > conversations_active
        or conversations_active > messages
        or conversations > conversations_active
        or conversation_share > conversations
        or (messages > 0 and concurrent_max < 1)
        or active_s < 0
)

select * from broken_sum
union all
select * from broken_transfer
union all
select * from broken_share
union all
select * from broken_row

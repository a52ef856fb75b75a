-- One row per conversation of the lake, also empty ones and test traffic. Only what the conversation tells by
-- itself, whatever the time is. Instants in microseconds (UTC), durations in seconds, NULL where there is
-- none.
with conversation as (
    select
        partition,
        conversation_id,
        user_id,
        agent_id,
        language,
        status,
        traffic_class,
        csat_score,
        coalesce(channel, 'unknown') as channel,
        epoch_us(started_at) as started_us,
        epoch_us(ended_at) as ended_us,
        epoch_us(source_updated_at) as source_updated_us,
        cast(started_at at time zone $report_timezone as date) as started_date,
        cast(ended_at at time zone $report_timezone as date) as ended_date
    from lake.conversations
),

-- the end in business time, as in stg_messages
ended as (
    select
        c.partition,
        c.conversation_id,
        b.cum_before_us
        + case
            when c.ended_us >= b.close_1_us then b.close_1_us - b.open_1_us
            when c.ended_us > b.open_1_us then c.ended_us - b.open_1_us
            else 0
        end
        + case
            when c.ended_us >= b.close_2_us then b.close_2_us - b.open_2_us
            when c.ended_us > b.open_2_us then c.ended_us - b.open_2_us
            else 0
        end
        + case
            when c.ended_us >= b.close_3_us then b.close_3_us - b.open_3_us
            when c.ended_us > b.open_3_us then c.ended_us - b.open_3_us
            else 0
        end
        + case
            when c.ended_us >= b.close_4_us then b.close_4_us - b.open_4_us
            when c.ended_us > b.open_4_us then c.ended_us - b.open_4_us
            else 0
        end as business_us
    from conversation as c
    inner join settings.business_day as b on c.ended_date = b.local_date
),

-- messages, counted or not
row_total as (
    select
        partition,
        conversation_id,
        cast(sum(case when sender_type = 'system' then 1 else 0 end) as bigint) as system_messages,
        cast(sum(case when is_private and sender_type <> 'system' then 1 else 0 end) as bigint)
            as private_messages,
        cast(sum(case when needs_translation then 1 else 0 end) as bigint) as needing_translation,
        cast(sum(case when is_translated then 1 else 0 end) as bigint) as translated_messages,
        max(source_updated_us) as source_updated_us
    from facts.stg_messages
    group by partition, conversation_id
),

message as (
    select
        partition,
        conversation_id,
        message_no,
        sender_type,
        sender_id,
        side,
        turn_no,
        opens_turn,
        created_us,
        business_us,
        local_date,
        language,
        lag(created_us) over (partition by partition, conversation_id order by message_no) as previous_us
    from facts.stg_messages
    where is_counted
),

talk as (
    select
        partition,
        conversation_id,
        count(*) as messages,
        cast(sum(case when sender_type = 'user' then 1 else 0 end) as bigint) as user_messages,
        cast(sum(case when sender_type = 'bot' then 1 else 0 end) as bigint) as bot_messages,
        cast(sum(case when sender_type = 'agent' then 1 else 0 end) as bigint) as agent_messages,
        cast(sum(case when side = 'user' and opens_turn then 1 else 0 end) as bigint) as user_turns,
        count(distinct case when sender_type = 'agent' then sender_id end) as agents,
        count(distinct case when sender_type = 'user' and language <> 'und' then language end) as languages,
        min(created_us) as first_message_at_us,
        max(created_us) as last_message_at_us,
        max(case when opens_turn and turn_no = 1 then local_date end) as first_message_date,
        max(case when opens_turn and turn_no = 1 then business_us end) as first_message_business_us,
        min(case when sender_type = 'user' then created_us end) as first_user_at_us,
        max(message_no) as last_message_no,
        min(case when sender_type = 'bot' then message_no end) as first_bot_no,
        max(case when sender_type = 'agent' then message_no end) as last_agent_no,
        cast(sum(
            case
                when created_us - previous_us > 300000000 then 300000000
                when created_us >= previous_us then created_us - previous_us
                else 0
            end
        ) as bigint) as active_us
    from message
    group by partition, conversation_id
),

-- the response clocks start at the user's first message, and stop at the first answer at or after it
answer as (
    select
        m.partition,
        m.conversation_id,
        min(case when m.side = 'staff' then m.created_us end) as first_any_at_us,
        min(case when m.sender_type = 'agent' then m.created_us end) as first_human_at_us
    from message as m
    inner join talk as t on m.partition = t.partition and m.conversation_id = t.conversation_id
    where m.created_us >= t.first_user_at_us
    group by m.partition, m.conversation_id
),

-- no event says when a bot handed over: its last message before the first human answer stands for it
handoff as (
    select
        m.partition,
        m.conversation_id,
        coalesce(
            max(
                case when m.sender_type = 'bot' and m.created_us <= a.first_human_at_us then m.created_us end
            ),
            min(t.first_user_at_us)
        ) as handoff_at_us
    from message as m
    inner join talk as t on m.partition = t.partition and m.conversation_id = t.conversation_id
    inner join answer as a on m.partition = a.partition and m.conversation_id = a.conversation_id
    where a.first_human_at_us is not null
    group by m.partition, m.conversation_id
),

-- the local day and the business time of an instant are those of the message written then
dated as (
    select
        m.partition,
        m.conversation_id,
        max(case when m.created_us = t.first_user_at_us then m.local_date end) as first_user_date,
        max(case when m.created_us = h.handoff_at_us then m.local_date end) as handoff_date,
        max(case when m.created_us = t.first_user_at_us then m.business_us end) as first_user_business_us,
        max(case when m.created_us = a.first_any_at_us then m.business_us end) as first_any_business_us,
        max(case when m.created_us = a.first_human_at_us then m.business_us end) as first_human_business_us,
        max(case when m.created_us = h.handoff_at_us then m.business_us end) as handoff_business_us,
        max(case when m.message_no = t.last_message_no then m.business_us end) as last_message_business_us,
        max(case when m.message_no = t.last_message_no then m.local_date end) as last_message_date,
        max(case when m.message_no = t.first_bot_no then m.sender_id end) as first_bot_id,
        max(case when m.message_no = t.last_agent_no then m.sender_id end) as last_agent_id
    from message as m
    inner join talk as t on m.partition = t.partition and m.conversation_id = t.conversation_id
    left join answer as a on m.partition = a.partition and m.conversation_id = a.conversation_id
    left join handoff as h on m.partition = h.partition and m.conversation_id = h.conversation_id
    group by m.partition, m.conversation_id
),

language_use as (
    select
        partition,
        conversation_id,
        language,
        count(*) as messages
    from message
    where sender_type = 'user' and language <> 'und'
    group by partition, conversation_id, language
),

language_rank as (
    select
        partition,
        conversation_id,
        language,
        row_number() over (
            partition by partition, conversation_id order by messages desc, language asc
        ) as place
    from language_use
),

event_total as (
    select
        partition,
        conversation_id,
        max(resolve_no) as resolves,
        min(case when to_status = 'resolved' then at_us end) as first_resolved_us,
        max(case when to_status = 'resolved' then at_us end) as last_resolved_us
    from facts.fct_status_event
    group by partition, conversation_id
),

resolve as (
    select
        partition,
        conversation_id,
        resolve_no,
        at_us,
        business_us,
        actor
    from facts.fct_status_event
    where to_status = 'resolved'
),

-- a reopening undoes the last resolve before it, unless 7 days (in microseconds) lie between: then an episode
reopening as (
    select
        e.partition,
        e.conversation_id,
        cast(sum(case when e.at_us - r.at_us <= 604800000000 then 1 else 0 end) as bigint) as reopens,
        cast(sum(case when e.at_us - r.at_us <= 604800000000 then 0 else 1 end) as bigint) as later_episodes,
        max(case when e.at_us - r.at_us <= 604800000000 then r.resolve_no end) as last_undone_no
    from facts.fct_status_event as e
    inner join resolve as r
        on
            e.partition = r.partition
            and e.conversation_id = r.conversation_id
            and e.resolve_no = r.resolve_no
    where e.from_status = 'resolved' and e.to_status = 'open'
    group by e.partition, e.conversation_id
),

-- where the source keeps no events, a status of resolved is one resolve at the end
resolution as (
    select
        c.partition,
        c.conversation_id,
        case
            when e.resolves is not null then e.first_resolved_us
            when c.status = 'resolved' then coalesce(c.ended_us, t.last_message_at_us)
        end as first_resolved_us,
        case
            when e.resolves is not null then e.last_resolved_us
            when c.status = 'resolved' then coalesce(c.ended_us, t.last_message_at_us)
        end as last_resolved_us,
        case
            when e.resolves is not null then e.resolves
            when c.status = 'resolved' then 1
            else 0
        end as resolves,
        case
            when e.resolves is not null then f.business_us
            when c.status = 'resolved' and c.ended_us is not null then n.business_us
            when c.status = 'resolved' then d.last_message_business_us
        end as first_resolved_business_us,
        case
            when e.resolves is not null then r.business_us
            when c.status = 'resolved' and c.ended_us is not null then n.business_us
            when c.status = 'resolved' then d.last_message_business_us
        end as last_resolved_business_us,
        case
            when e.conversation_id is null and c.status in ('resolved', 'abandoned')
                then coalesce(c.ended_date, d.last_message_date)
        end as closed_date,
        r.actor as last_resolved_by,
        coalesce(o.reopens, 0) as reopens,
        coalesce(o.later_episodes, 0) + 1 as episodes,
        coalesce(o.last_undone_no = e.resolves, false) as is_undone
    from conversation as c
    left join talk as t on c.partition = t.partition and c.conversation_id = t.conversation_id
    left join event_total as e on c.partition = e.partition and c.conversation_id = e.conversation_id
    left join resolve as r
        on
            c.partition = r.partition
            and c.conversation_id = r.conversation_id
            and e.resolves = r.resolve_no
    left join resolve as f
        on c.partition = f.partition and c.conversation_id = f.conversation_id and f.resolve_no = 1
    left join ended as n on c.partition = n.partition and c.conversation_id = n.conversation_id
    left join dated as d on c.partition = d.partition and c.conversation_id = d.conversation_id
    left join reopening as o on c.partition = o.partition and c.conversation_id = o.conversation_id
),

staff_turn as (
    select
        partition,
        conversation_id,
        turn_no,
        min(created_us) as started_us,
        max(case when sender_type = 'agent' then 1 else 0 end) as has_agent
    from message
    where side = 'staff'
    group by partition, conversation_id, turn_no
),

touch as (
    select
        s.partition,
        s.conversation_id,
        count(*) as touches
    from staff_turn as s
    inner join resolution as r on s.partition = r.partition and s.conversation_id = r.conversation_id
    where s.has_agent = 1 and s.started_us <= r.last_resolved_us
    group by s.partition, s.conversation_id
),

category_rank as (
    select
        partition,
        conversation_id,
        category,
        taxonomy_version,
        -- version 10 comes after version 9
        row_number() over (
            partition by partition, conversation_id
            order by length(taxonomy_version) desc, taxonomy_version desc
        ) as place
    from lake.categories
),

-- money is never a float, and prices of several currencies have no sum
llm_use as (
    select
        partition,
        conversation_id,
        cast(sum(tokens) as bigint) as tokens,
        cast(sum(price) as decimal(18, 8)) as price,
        min(currency) as currency,
        count(distinct currency) as currencies
    from facts.fct_llm_call
    group by partition, conversation_id
),

known as (
    select
        c.partition,
        c.conversation_id,
        c.user_id,
        c.agent_id,
        c.channel,
        c.status,
        c.traffic_class,
        c.started_us,
        c.ended_us,
        c.csat_score,
        coalesce(c.language, l.language, 'und') as language,
        k.category,
        k.taxonomy_version,
        u.tokens,
        case when u.currencies <= 1 then u.price end as llm_cost,
        case when u.currencies > 1 then 'several' else u.currency end as llm_currency,
        t.first_message_business_us,
        t.first_message_at_us,
        t.last_message_at_us,
        coalesce(t.first_message_date, c.started_date) as first_message_date,
        coalesce(t.messages, 0) as messages,
        coalesce(t.user_messages, 0) as user_messages,
        coalesce(t.bot_messages, 0) as bot_messages,
        coalesce(t.agent_messages, 0) as agent_messages,
        coalesce(w.system_messages, 0) as system_messages,
        coalesce(w.private_messages, 0) as private_messages,
        coalesce(t.user_turns, 0) as user_turns,
        coalesce(t.agents, 0) as agents,
        coalesce(t.languages, 0) as languages,
        coalesce(t.first_bot_no < t.last_agent_no, false) as handed_off,
        t.active_us,
        t.first_user_at_us,
        coalesce(w.needing_translation, 0) as needing_translation,
        coalesce(w.translated_messages, 0) as translated_messages,
        case
            when w.source_updated_us > c.source_updated_us then w.source_updated_us
            else c.source_updated_us
        end as source_updated_us
    from conversation as c
    left join row_total as w on c.partition = w.partition and c.conversation_id = w.conversation_id
    left join talk as t on c.partition = t.partition and c.conversation_id = t.conversation_id
    left join language_rank as l
        on c.partition = l.partition and c.conversation_id = l.conversation_id and l.place = 1
    left join category_rank as k
        on c.partition = k.partition and c.conversation_id = k.conversation_id and k.place = 1
    left join llm_use as u on c.partition = u.partition and c.conversation_id = u.conversation_id
)

select
    k.partition,
    k.conversation_id,
    k.user_id,
    k.agent_id,
    k.channel,
    k.language,
    k.status,
    k.traffic_class,
    k.traffic_class = 'live' as is_counted,
    k.category,
    k.taxonomy_version,
    k.started_us,
    k.ended_us,
    k.first_message_at_us,
    k.last_message_at_us,
    k.first_message_date,
    k.messages,
    k.user_messages,
    k.bot_messages,
    k.agent_messages,
    k.system_messages,
    k.private_messages,
    k.user_turns,
    k.agents,
    d.first_bot_id,
    d.last_agent_id,
    k.languages,
    k.first_user_at_us,
    d.first_user_date,
    a.first_any_at_us,
    a.first_human_at_us,
    h.handoff_at_us,
    d.handoff_date,
    d.first_user_business_us,
    d.first_any_business_us,
    d.first_human_business_us,
    d.handoff_business_us,
    case when a.first_any_at_us >= k.first_user_at_us then (a.first_any_at_us - k.first_user_at_us) / 1e6 end
        as first_response_s,
    case
        when a.first_human_at_us >= k.first_user_at_us then (a.first_human_at_us - k.first_user_at_us) / 1e6
    end as first_human_response_s,
    case when a.first_human_at_us >= h.handoff_at_us then (a.first_human_at_us - h.handoff_at_us) / 1e6 end
        as human_response_after_handoff_s,
    case
        when a.first_any_at_us >= k.first_user_at_us
            then (d.first_any_business_us - d.first_user_business_us) / 1e6
    end as first_response_bh_s,
    case
        when a.first_human_at_us >= k.first_user_at_us
            then (d.first_human_business_us - d.first_user_business_us) / 1e6
    end as first_human_response_bh_s,
    case
        when a.first_human_at_us >= h.handoff_at_us
            then (d.first_human_business_us - d.handoff_business_us) / 1e6
    end as human_response_after_handoff_bh_s,
    r.first_resolved_us,
    r.last_resolved_us,
    r.last_resolved_by,
    r.closed_date,
    case
        when r.first_resolved_us >= k.first_message_at_us
            then (r.first_resolved_us - k.first_message_at_us) / 1e6
    end as resolution_first_s,
    case
        when r.last_resolved_us >= k.first_message_at_us
            then (r.last_resolved_us - k.first_message_at_us) / 1e6
    end as resolution_last_s,
    case
        when r.first_resolved_us >= k.first_message_at_us
            then (r.first_resolved_business_us - k.first_message_business_us) / 1e6
    end as resolution_first_bh_s,
    case
        when r.last_resolved_us >= k.first_message_at_us
            then (r.last_resolved_business_us - k.first_message_business_us) / 1e6
    end as resolution_last_bh_s,
    r.resolves,
    r.reopens,
    r.is_undone,
    r.episodes,
    case when k.messages > 0 and r.last_resolved_us is not null then coalesce(o.touches, 0) end as touches,
    k.active_us / 1e6 as active_s,
    k.csat_score,
    case
        when k.messages = 0 then 'empty'
        when k.bot_messages + k.agent_messages = 0 then 'unanswered'
        when k.status = 'resolved' and k.bot_messages > 0 and k.agent_messages = 0 and k.user_messages > 0
            then 'contained'
        when k.status = 'resolved' then 'agent_resolved'
        when k.status = 'abandoned' then 'abandoned'
        when k.agent_messages > 0 then 'agent_open'
        else 'bot_open'
    end as outcome,
    k.bot_messages > 0 and k.agent_messages = 0 as bot_only,
    k.bot_messages > 0 and k.agent_messages = 0 and k.status = 'resolved' as contained,
    k.user_messages > 0 and k.bot_messages + k.agent_messages = 0 as unanswered,
    k.messages = 0 as is_empty,
    k.handed_off,
    k.needing_translation,
    k.translated_messages,
    k.llm_cost,
    k.llm_currency,
    k.tokens,
    k.source_updated_us
from known as k
inner join resolution as r on k.partition = r.partition and k.conversation_id = r.conversation_id
left join answer as a on k.partition = a.partition and k.conversation_id = a.conversation_id
left join handoff as h on k.partition = h.partition and k.conversation_id = h.conversation_id
left join dated as d on k.partition = d.partition and k.conversation_id = d.conversation_id
left join touch as o on k.partition = o.partition and k.conversation_id = o.conversation_id

-- One row per user turn and the answer it got. A turn is a run of counted messages of one side, so several
-- messages of the user are one wait, which starts at the first of them. Instants in microseconds (UTC).
with message as (
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
        local_hour,
        local_isodow
    from facts.stg_messages
    where is_counted
),

first_agent as (
    select
        partition,
        conversation_id,
        turn_no,
        min(created_us) as human_replied_at_us
    from message
    where sender_type = 'agent'
    group by partition, conversation_id, turn_no
),

reply as (
    select
        n.partition,
        n.conversation_id,
        n.turn_no,
        n.created_us as replied_at_us,
        n.business_us as replied_business_us,
        n.sender_id as replier_id,
        n.sender_type as replier_type,
        a.human_replied_at_us
    from message as n
    left join first_agent as a
        on n.partition = a.partition and n.conversation_id = a.conversation_id and n.turn_no = a.turn_no
    where n.opens_turn and n.side = 'staff'
),

wait as (
    select
        partition,
        conversation_id,
        created_us as waiting_since_us,
        business_us as waiting_since_business_us,
        local_date,
        local_hour,
        local_isodow,
        turn_no + 1 as reply_turn_no,
        row_number() over (partition by partition, conversation_id order by message_no) as turn_no
    from message
    where opens_turn and side = 'user'
)

select
    w.partition,
    w.conversation_id,
    w.turn_no,
    c.user_id,
    w.waiting_since_us,
    w.waiting_since_business_us,
    w.local_date,
    w.local_hour,
    w.local_isodow,
    r.replied_at_us,
    r.replied_business_us,
    r.replier_id,
    r.replier_type,
    case when r.replied_at_us >= w.waiting_since_us then (r.replied_at_us - w.waiting_since_us) / 1e6 end
        as reply_s,
    case
        when r.replied_at_us >= w.waiting_since_us
            then (r.replied_business_us - w.waiting_since_business_us) / 1e6
    end as reply_bh_s,
    r.human_replied_at_us,
    case
        when r.human_replied_at_us >= w.waiting_since_us
            then (r.human_replied_at_us - w.waiting_since_us) / 1e6
    end as human_reply_s,
    c.channel,
    c.language,
    c.traffic_class
from wait as w
inner join facts.fct_conversation as c
    on w.partition = c.partition and w.conversation_id = c.conversation_id
left join reply as r
    on w.partition = r.partition and w.conversation_id = r.conversation_id and w.reply_turn_no = r.turn_no

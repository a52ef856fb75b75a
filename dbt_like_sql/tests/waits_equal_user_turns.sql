-- A conversation whose waits are not its user turns, or a wait that is answered before it began.
with wait_total as (
    select
        partition,
        conversation_id,
        count(*) as waits,
        max(turn_no) as last_turn_no,
        cast(sum(case when replied_at_us is not null and reply_s is null then 1 else 0 end) as bigint)
            as untimed,
        cast(sum(
            case
                when reply_s < 0 or human_reply_s < reply_s then 1
                when reply_bh_s < 0 or reply_bh_s > reply_s + 1e-6 then 1
                else 0
            end
        ) as bigint) as negative,
        cast(sum(
            case when human_replied_at_us is not null and replied_at_us is null then 1 else 0 end
        ) as bigint) as contradictory
    from facts.fct_wait
    group by partition, conversation_id
)

select
    coalesce(c.partition, w.partition) as partition,
    coalesce(c.conversation_id, w.conversation_id) as conversation_id,
    c.user_turns,
    w.waits,
    w.last_turn_no,
    w.untimed,
    w.negative,
    w.contradictory
from facts.fct_conversation as c
full outer join wait_total as w on c.partition = w.partition and c.conversation_id = w.conversation_id
where
    c.user_turns is null
    or c.user_turns <> coalesce(w.waits, 0)
    or w.waits <> w.last_turn_no
    or w.untimed > 0
    or w.negative > 0
    or w.contradictory > 0

-- One row per message of the lake's days it is given, in order of time, beside its translation if any;
-- `place` is the message's in its conversation.
with ok_translations as (
    select
        message_id,
        max(text) as translation
    from lake.translations
    where status = 'ok'
    group by message_id
)

select
    messages.conversation_id,
    messages.created_at,
    messages.sender_type,
    messages.text,
    ok_translations.translation,
    row_number() over (
        partition by messages.conversation_id
        order by messages.created_at, messages.seq, messages.message_id
    ) as place
from lake.messages as messages
left join ok_translations on messages.message_id = ok_translations.message_id
where not messages.is_private
order by messages.conversation_id, messages.created_at, messages.seq, messages.message_id

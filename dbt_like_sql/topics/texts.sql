-- One row per live conversation with a counted message: its local day, and what its user wrote, each message
-- in its newest translation where there is one, else as it was written. DuckDB's own SQL: texts are joined.
with translation as (
    select
        partition,
        conversation_id,
        message_id,
        text,
        row_number() over (
            partition by partition, conversation_id, message_id
            order by length(prompt_version) desc, prompt_version desc, target_language asc
        ) as place
    from lake.translations
    where status = 'ok' and text is not null
),

written as (
    select
        s.partition,
        s.conversation_id,
        string_agg(coalesce(t.text, m.text), chr(10) order by s.message_no) as text
    from facts.stg_messages as s
    inner join lake.messages as m
        on
            s.partition = m.partition
            and s.conversation_id = m.conversation_id
            and s.message_id = m.message_id
    left join translation as t
        on
            s.partition = t.partition
            and s.conversation_id = t.conversation_id
            and s.message_id = t.message_id
            and t.place = 1
    where s.is_counted and s.traffic_class = 'live' and s.sender_type = 'user'
    group by s.partition, s.conversation_id
)

select
    c.partition,
    c.conversation_id,
    c.first_message_date as report_date,
    coalesce(w.text, '') as text
from facts.fct_conversation as c
left join written as w on c.partition = w.partition and c.conversation_id = w.conversation_id
where c.is_counted and not c.is_empty

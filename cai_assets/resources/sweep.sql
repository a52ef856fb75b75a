-- What the source holds and what became of it, row by row: the days that differ, and why.
-- Grain: one row per day that is not up to date. Inputs: source_rows (table_name, id, conversation_id, day,
-- updated_us), one per source row; known_rows (table_name, id, day, updated_us), one per place of a source
-- row in the documents. Units: microseconds since 1970 UTC.
with conversation_days as (
    select distinct
        conversation_id,
        day
    from source_rows
    where table_name = 'conversations' and conversation_id is not null and day is not null
),

placed_rows as (
    select
        table_name,
        id,
        day,
        updated_us
    from source_rows
    where table_name = 'conversations' and day is not null
    union all
    select
        messages.table_name,
        messages.id,
        conversation_days.day,
        messages.updated_us
    from source_rows as messages
    inner join conversation_days on messages.conversation_id = conversation_days.conversation_id
    where messages.table_name = 'messages'
),

compared as (
    select
        coalesce(placed_rows.table_name, known_rows.table_name) as table_name,
        coalesce(placed_rows.id, known_rows.id) as id,
        coalesce(placed_rows.day, known_rows.day) as day,
        placed_rows.updated_us,
        placed_rows.id is not null as is_placed,
        known_rows.id is not null as is_known,
        -- a source without row times says nothing of edits
        placed_rows.updated_us is null or placed_rows.updated_us = known_rows.updated_us as is_same
    from placed_rows
    full join known_rows
        on
            placed_rows.table_name = known_rows.table_name
            and placed_rows.id = known_rows.id
            and placed_rows.day = known_rows.day
),

rows_anywhere as (
    select
        table_name,
        id,
        bool_or(is_placed) as is_placed,
        bool_or(is_known) as is_known
    from compared
    group by table_name, id
),

differing as (
    select
        compared.table_name,
        compared.id,
        compared.day,
        compared.updated_us,
        case
            when compared.is_placed and compared.is_known then 'edited'
            when compared.is_placed and rows_anywhere.is_known then 'moved'
            when compared.is_placed then 'new'
            when rows_anywhere.is_placed then 'moved'
            else 'deleted'
        end as reason
    from compared
    inner join rows_anywhere
        on compared.table_name = rows_anywhere.table_name and compared.id = rows_anywhere.id
    where not compared.is_placed or not compared.is_known or not compared.is_same
)

select
    day,
    count(*) filter (where reason = 'new') as new_rows,
    count(*) filter (where reason = 'edited') as edited_rows,
    count(*) filter (where reason = 'moved') as moved_rows,
    count(*) filter (where reason = 'deleted') as deleted_rows,
    -- the same as long as the same rows differ in the same way
    cast(bit_xor(hash(table_name, id, reason, coalesce(updated_us, 0))) as varchar) as version
from differing
group by day
order by day

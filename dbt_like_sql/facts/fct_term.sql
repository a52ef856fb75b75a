-- Terms of the users' live counted messages, per local day of the message, its channel and language. A term
-- is a word (letters and marks, apostrophes inside), lower case, NFC; in scripts that put no spaces between
-- words (Han, kana, Thai, Lao, Khmer, Burmese) and in Hangul, two neighbouring characters, or the one there
-- is. Masks (#NAME#, [email]), links, addresses, words with a digit or an underscore and words over 40
-- characters are no terms. Runs on DuckDB alone: classes of characters are written differently elsewhere.
with message as (
    select
        s.partition,
        s.message_id,
        s.local_date,
        s.channel,
        s.language,
        replace(nfc_normalize(lower(m.text)), '’', '''') as text
    from facts.stg_messages as s
    inner join lake.messages as m
        on
            s.partition = m.partition
            and s.conversation_id = m.conversation_id
            and s.message_id = m.message_id
    where
        s.is_counted
        and s.traffic_class = 'live'
        and s.sender_type = 'user'
        and m.text is not null
),

unmasked as (
    select
        partition,
        message_id,
        local_date,
        channel,
        language,
        regexp_replace(
            text,
            'https?://\S+|www\.\S+|\S+@\S+|#[a-z0-9_]+#|\[(?:email|phone|card|iban|token|number)\]',
            ' ',
            'g'
        ) as text
    from message
),

-- runs of the scripts without spaces stand apart from the letters around them
spaced as (
    select
        partition,
        message_id,
        local_date,
        channel,
        language,
        regexp_replace(
            text,
            '([\p{Han}\p{Hiragana}\p{Katakana}ー\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+)',
            ' \1 ',
            'g'
        ) as text
    from unmasked
),

piece as (
    select
        partition,
        message_id,
        local_date,
        channel,
        language,
        unnest(regexp_extract_all(
            text,
            '[\p{L}\p{M}\p{N}_\x{200C}\x{200D}]+(?:''[\p{L}\p{M}\p{N}_\x{200C}\x{200D}]+)*'
        )) as piece
    from spaced
),

told as (
    select
        *,
        length(piece) as characters,
        regexp_matches(
            piece, '[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]'
        ) as is_run,
        regexp_matches(piece, '[\p{N}_]') as is_code
    from piece
),

term as (
    select
        partition,
        message_id,
        local_date,
        channel,
        language,
        piece as term
    from told
    where not is_code and (characters = 1 or (not is_run and characters <= 40))
    union all
    select
        t.partition,
        t.message_id,
        t.local_date,
        t.channel,
        t.language,
        substr(t.piece, p.place, 2) as term
    from told as t
    cross join unnest(generate_series(1, t.characters - 1)) as p (place)
    where t.is_run and not t.is_code and t.characters > 1
),

of_message as (
    select
        partition,
        message_id,
        local_date,
        channel,
        language,
        term,
        count(*) as occurrences
    from term
    group by partition, message_id, local_date, channel, language, term
)

select
    partition,
    local_date,
    channel,
    language,
    term,
    count(*) as messages,
    cast(sum(occurrences) as bigint) as occurrences
from of_message
group by partition, local_date, channel, language, term

-- Live counted messages per local day, channel, language and category of the conversation, and the language
-- of the message: how many, what needs a translation and has one, whether detected and declared languages
-- agree.
select
    m.local_date as report_date,
    f.channel,
    f.language,
    coalesce(f.category, 'not categorised') as category,
    m.language as spoken,
    count(*) as messages,
    cast(sum(case when m.sender_type = 'user' then 1 else 0 end) as bigint) as user_messages,
    cast(sum(case when m.needs_translation then 1 else 0 end) as bigint) as needing_translation,
    cast(sum(case when m.translation_status = 'ok' then 1 else 0 end) as bigint) as translated,
    cast(sum(case when m.translation_status = 'failed' then 1 else 0 end) as bigint) as translation_failed,
    cast(sum(case when m.translation_status = 'skipped' then 1 else 0 end) as bigint) as translation_skipped,
    count(m.detection_agrees) as detection_compared,
    cast(sum(case when m.detection_agrees then 1 else 0 end) as bigint) as detection_agreeing
from facts.stg_messages as m
inner join facts.fct_conversation as f
    on m.partition = f.partition and m.conversation_id = f.conversation_id
where m.is_counted and m.traffic_class = 'live'
group by m.local_date, f.channel, f.language, coalesce(f.category, 'not categorised'), m.language

-- Live counted messages per local day and language of the message, with the coverage of translation and the
-- agreement of declared and detected languages as numerators and denominators.
select
    strftime(local_date, '%Y-%m') as month,
    local_date as report_date,
    language,
    count(*) as messages,
    cast(sum(case when sender_type = 'user' then 1 else 0 end) as bigint) as user_messages,
    count(distinct case when sender_type = 'user' then user_id end) as users,
    count(distinct conversation_id) as conversations,
    cast(sum(case when needs_translation then 1 else 0 end) as bigint) as needing_translation,
    cast(sum(case when translation_status = 'ok' then 1 else 0 end) as bigint) as translated,
    cast(sum(case when translation_status = 'failed' then 1 else 0 end) as bigint) as failed,
    cast(sum(case when translation_status = 'skipped' then 1 else 0 end) as bigint) as skipped,
    count(detection_agrees) as detection_compared,
    cast(sum(case when detection_agrees then 1 else 0 end) as bigint) as detection_agreeing
from facts.stg_messages
where is_counted and traffic_class = 'live'
group by local_date, language

-- One row per language of live messages: how many, and how many of those that need a translation have one.
select
    language,
    cast(sum(messages) as bigint) as messages,
    cast(sum(user_messages) as bigint) as user_messages,
    cast(sum(needing_translation) as bigint) as needing_translation,
    cast(sum(translated) as bigint) as translated,
    cast(sum(failed) as bigint) as failed,
    cast(sum(skipped) as bigint) as skipped,
    cast(sum(detection_compared) as bigint) as detection_compared,
    cast(sum(detection_agreeing) as bigint) as detection_agreeing
from marts.language
group by language
order by messages desc, language asc

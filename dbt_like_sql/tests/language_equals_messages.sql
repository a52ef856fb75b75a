-- A local day and language whose messages are not those of staging, or whose coverage does not add up.
with fact_total as (
    select
        local_date as report_date,
        language,
        count(*) as messages
    from facts.stg_messages
    where is_counted and traffic_class = 'live'
    group by local_date, language
)

select
    coalesce(f.report_date, m.report_date) as report_date,
    coalesce(f.language, m.language) as language,
    f.messages,
    m.messages as mart_messages,
    m.needing_translation,
    m.translated,
    m.failed,
    m.skipped
from fact_total as f
full outer join marts.language as m on f.report_date = m.report_date and f.language = m.language
where
    f.messages is distinct from m.messages
    or m.user_messages > m.messages
    or m.needing_translation > m.messages
    or m.translated + m.failed + m.skipped <> m.needing_translation
    or m.cached > m.translated
    or m.detection_compared > m.messages
    or m.detection_agreeing > m.detection_compared

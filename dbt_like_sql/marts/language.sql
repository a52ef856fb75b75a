-- Live counted messages per local day and language of the message, with the coverage of translation and the
-- agreement of declared and detected languages as numerators and denominators. What translations cost is by
-- the ledger, all tries of a message together, in Dify's currency; the lag is from message to translation.
with answer as (
    select
        message_id,
        max(case when status = 'cached' then 1 else 0 end) as is_cached,
        cast(sum(tokens) as bigint) as tokens,
        cast(sum(price) as decimal(18, 8)) as price,
        min(case when status <> 'failed' then created_us + coalesce(latency_ms, 0) * 1000 end) as answered_us
    from facts.fct_llm_call
    where purpose = 'translation' and message_id is not null
    group by message_id
),

message as (
    select
        m.local_date as report_date,
        m.language,
        m.sender_type,
        m.user_id,
        m.conversation_id,
        m.needs_translation,
        m.translation_status,
        m.detection_agrees,
        a.tokens,
        a.price,
        m.translation_status = 'ok' and a.is_cached = 1 as is_cached,
        case
            when m.translation_status = 'ok' and a.answered_us >= m.created_us
                then (a.answered_us - m.created_us) / 1e6
        end as lag_s
    from facts.stg_messages as m
    left join answer as a on m.message_id = a.message_id
    where m.is_counted and m.traffic_class = 'live'
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    language,
    count(*) as messages,
    cast(sum(case when sender_type = 'user' then 1 else 0 end) as bigint) as user_messages,
    count(distinct case when sender_type = 'user' then user_id end) as users,
    count(distinct conversation_id) as conversations,
    cast(sum(case when needs_translation then 1 else 0 end) as bigint) as needing_translation,
    cast(sum(case when translation_status = 'ok' then 1 else 0 end) as bigint) as translated,
    cast(sum(case when is_cached then 1 else 0 end) as bigint) as cached,
    cast(sum(case when translation_status = 'failed' then 1 else 0 end) as bigint) as failed,
    cast(sum(case when translation_status = 'skipped' then 1 else 0 end) as bigint) as skipped,
    cast(sum(tokens) as bigint) as tokens,
    cast(sum(price) as decimal(18, 8)) as price,
    quantile_cont(lag_s, 0.5) as lag_p50_s,
    quantile_cont(lag_s, 0.95) as lag_p95_s,
    count(detection_agrees) as detection_compared,
    cast(sum(case when detection_agrees then 1 else 0 end) as bigint) as detection_agreeing
from message
group by report_date, language

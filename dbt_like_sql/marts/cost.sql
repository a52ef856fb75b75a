-- Calls of language models per local day of the call, purpose, model and currency, test traffic included: it
-- is paid for too. A run about several texts has a row in the ledger for each, and counts once as a call.
-- Money is decimal, in the row's currency; NULL where Dify told none of the row's calls.
with call as (
    select
        local_date as report_date,
        purpose,
        coalesce(model, 'unknown') as model,
        coalesce(currency, 'unknown') as currency,
        status,
        conversation_id,
        tokens,
        price,
        attempts,
        case when status <> 'cached' then coalesce(workflow_run_id, call_id) end as run,
        case when attempts > 0 then latency_ms end as latency_ms
    from facts.fct_llm_call
),

resolved as (
    select distinct conversation_id as resolved_id
    from facts.fct_conversation
    where resolves > 0
)

select
    strftime(c.report_date, '%Y-%m') as month,
    c.report_date,
    c.purpose,
    c.model,
    c.currency,
    count(distinct c.run) as calls,
    cast(sum(c.attempts) as bigint) as requests,
    cast(sum(case when c.status = 'ok' then 1 else 0 end) as bigint) as ok,
    cast(sum(case when c.status = 'failed' then 1 else 0 end) as bigint) as failed,
    cast(sum(case when c.status = 'cached' then 1 else 0 end) as bigint) as cached,
    cast(sum(case when c.status <> 'cached' and c.tokens is null then 1 else 0 end) as bigint)
        as unknown_usage,
    cast(sum(c.tokens) as bigint) as tokens,
    cast(sum(c.price) as decimal(18, 8)) as price,
    quantile_cont(c.latency_ms, 0.5) as latency_p50_ms,
    quantile_cont(c.latency_ms, 0.95) as latency_p95_ms,
    count(distinct c.conversation_id) as conversations,
    count(distinct r.resolved_id) as resolved_conversations
from call as c
left join resolved as r on c.conversation_id = r.resolved_id
group by c.report_date, c.purpose, c.model, c.currency

-- One row per call of a Dify workflow, as the ledger has it: failed calls cost too, answers from the memory
-- are calls that cost nothing. Money is decimal. A typed view of the ledger, so it meets the clock once.
select
    partition,
    call_id,
    purpose,
    status,
    conversation_id,
    message_id,
    workflow_run_id,
    model,
    tokens,
    price,
    currency,
    latency_ms,
    cast(attempts as bigint) as attempts,
    epoch_us(created_at) as created_us,
    cast(created_at at time zone $report_timezone as date) as local_date
from lake.llm_calls

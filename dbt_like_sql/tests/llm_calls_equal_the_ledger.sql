-- A call of the ledger that is not among the facts, or the other way round, or whose tokens or price differ.
select
    coalesce(l.call_id, f.call_id) as call_id,
    l.price as ledger_price,
    f.price as fact_price
from lake.llm_calls as l
full outer join facts.fct_llm_call as f on l.partition = f.partition and l.call_id = f.call_id
where
    l.call_id is null
    or f.call_id is null
    or l.tokens is distinct from f.tokens
    or l.price is distinct from f.price

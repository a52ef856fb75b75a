-- A local day and purpose whose answers, tokens or price are not those of the ledger, to the last token.
with fact_total as (
    select
        local_date as report_date,
        purpose,
        count(*) as answers,
        cast(sum(attempts) as bigint) as requests,
        cast(sum(tokens) as bigint) as tokens,
        cast(sum(price) as decimal(18, 8)) as price
    from facts.fct_llm_call
    group by local_date, purpose
),

mart_total as (
    select
        report_date,
        purpose,
        cast(sum(ok + failed + cached) as bigint) as answers,
        cast(sum(requests) as bigint) as requests,
        cast(sum(tokens) as bigint) as tokens,
        cast(sum(price) as decimal(18, 8)) as price,
        max(case when calls > ok + failed or resolved_conversations > conversations then 1 else 0 end)
            as is_wrong
    from marts.cost
    group by report_date, purpose
)

select
    coalesce(f.report_date, m.report_date) as report_date,
    coalesce(f.purpose, m.purpose) as purpose,
    f.answers,
    m.answers as mart_answers,
    f.tokens,
    m.tokens as mart_tokens,
    f.price,
    m.price as mart_price
from fact_total as f
full outer join mart_total as m on f.report_date = m.report_date and f.purpose = m.purpose
where
    f.answers is distinct from m.answers
    or f.requests is distinct from m.requests
    or f.tokens is distinct from m.tokens
    or f.price is distinct from m.price
    or m.is_wrong = 1

-- Calls of language models per local day, channel, language and category of the conversation they were made
-- for, purpose, model and currency, test traffic included: what these conversations cost, whenever it was
-- spent. A run about several texts counts once as a call, with the first of its rows. `price_units` are 1e-8
-- of the currency, whole, so that they add up exactly.
with call as (
    select
        f.first_message_date as report_date,
        f.channel,
        f.language,
        coalesce(f.category, 'not categorised') as category,
        c.purpose,
        coalesce(c.model, 'unknown') as model,
        coalesce(c.currency, 'unknown') as currency,
        c.status,
        c.attempts,
        c.tokens,
        c.price,
        row_number() over (
            partition by
                coalesce(c.workflow_run_id, c.call_id), c.local_date, c.purpose,
                coalesce(c.model, 'unknown'), coalesce(c.currency, 'unknown'), c.status = 'cached'
            order by c.call_id
        ) as place_in_run
    from facts.fct_llm_call as c
    inner join facts.fct_conversation as f
        on c.partition = f.partition and c.conversation_id = f.conversation_id
)

select
    report_date,
    channel,
    language,
    category,
    purpose,
    model,
    currency,
    cast(sum(case when status <> 'cached' and place_in_run = 1 then 1 else 0 end) as bigint) as llm_calls,
    cast(sum(attempts) as bigint) as llm_requests,
    cast(sum(case when status = 'ok' then 1 else 0 end) as bigint) as llm_answers,
    cast(sum(case when status = 'failed' then 1 else 0 end) as bigint) as llm_failures,
    cast(sum(case when status = 'cached' then 1 else 0 end) as bigint) as llm_cached,
    cast(sum(coalesce(tokens, 0)) as bigint) as tokens,
    cast(sum(coalesce(price, 0)) * 100000000 as bigint) as price_units
from call
group by report_date, channel, language, category, purpose, model, currency

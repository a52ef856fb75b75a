"""Metrics of what language models cost: calls, tokens, money, latency. Test traffic costs too."""

from cai_assets.schemas.metrics.declaring import conversations, distinct, money, ratio, statistic, total

_CALLS = "facts.fct_llm_call"
_LATENCY = f"select quantile_cont(case when attempts > 0 then latency_ms end, {{}}) from {_CALLS}"

METRICS = (
    distinct(
        "llm_calls",
        "Model calls",
        "Distinct runs of workflows, failed ones included; a run about several texts counts once, an answer "
        "from the memory is none.",
        sql=(
            "select count(distinct case when status <> 'cached' then coalesce(workflow_run_id, call_id) end) "
            f"from {_CALLS}"
        ),
        unit="calls",
        heading="Calls",
    ),
    conversations(
        "llm_requests",
        "Requests",
        "Requests sent to Dify, refused and repeated ones included.",
        mart="cost",
        column="requests",
        facts=f"select sum(attempts) from {_CALLS}",
        unit="requests",
    ),
    conversations(
        "llm_answers",
        "Answers",
        "Texts or conversations that a model answered usably.",
        mart="cost",
        column="ok",
        facts=f"select count(*) from {_CALLS} where status = 'ok'",
        unit="answers",
    ),
    conversations(
        "llm_failures",
        "Failures",
        "Tries that gave no usable answer.",
        mart="cost",
        column="failed",
        facts=f"select count(*) from {_CALLS} where status = 'failed'",
        unit="answers",
        heading="Failed",
    ),
    conversations(
        "llm_cached",
        "Served from memory",
        "Texts served from the memory, which costs nothing.",
        mart="cost",
        column="cached",
        facts=f"select count(*) from {_CALLS} where status = 'cached'",
        unit="answers",
    ),
    conversations(
        "llm_unknown_usage",
        "Usage unknown",
        "Answers and failures whose tokens Dify did not say.",
        mart="cost",
        column="unknown_usage",
        facts=f"select count(*) from {_CALLS} where status <> 'cached' and tokens is null",
        unit="answers",
    ),
    total(
        "tokens",
        "Tokens",
        "Tokens of all tries, failed ones included, by the ledger; NULL where Dify never said.",
        unit="tokens",
        sql="select sum(tokens) from marts.cost",
        facts=f"select sum(tokens) from {_CALLS}",
        nullable=True,
    ),
    money(
        "price",
        "Price",
        "Price of all tries, failed ones included, by the ledger, in the row's currency; NULL where Dify "
        "never said.",
        sql="select sum(price) from marts.cost",
        facts=f"select sum(price) from {_CALLS}",
    ),
    statistic(
        "llm_latency_p50_ms",
        "Latency, median",
        "Median time from the question to the last event of a call.",
        sql=_LATENCY.format(0.5),
        unit="ms",
    ),
    statistic(
        "llm_latency_p95_ms",
        "Latency, 95th percentile",
        "95th percentile of the time from the question to the last event of a call.",
        sql=_LATENCY.format(0.95),
        unit="ms",
    ),
    distinct(
        "llm_conversations",
        "Conversations asked about",
        "Distinct conversations for which there was a call. Those of several rows must not be added.",
        sql=f"select count(distinct conversation_id) from {_CALLS}",
        unit="conversations",
    ),
    distinct(
        "llm_resolved_conversations",
        "Resolved conversations asked about",
        "Distinct conversations for which there was a call and which were resolved at least once. Those of "
        "several rows must not be added.",
        sql=(
            f"select count(distinct c.conversation_id) from {_CALLS} as c "
            "inner join facts.fct_conversation as f on c.conversation_id = f.conversation_id "
            "where f.resolves > 0"
        ),
        unit="conversations",
    ),
    ratio(
        "price_per_conversation",
        "Price per conversation",
        "Price of all tries over the distinct conversations asked about, for one row of marts.cost.",
        numerator="price",
        denominator="llm_conversations",
        mart="cost",
        columns=("price", "conversations"),
        unit="currency",
    ),
    ratio(
        "price_per_resolved",
        "Price per resolved conversation",
        "Price of all tries over the distinct resolved conversations asked about, for one row of marts.cost.",
        numerator="price",
        denominator="llm_resolved_conversations",
        mart="cost",
        columns=("price", "resolved_conversations"),
        unit="currency",
    ),
)

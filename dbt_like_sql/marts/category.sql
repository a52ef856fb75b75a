-- Conversations per ISO week (its Monday), taxonomy version and category, by the local day of the first
-- counted message; a row of zeros for every week between the version's first and last and every category it
-- ever gave. Empty conversations are left out. `wow_z` is the z score of the share against the week before
-- (two proportions, pooled variance). Each version has all of a conversation's tokens and price.
with spent as (
    select
        conversation_id,
        cast(sum(tokens) as bigint) as tokens,
        cast(sum(price) as decimal(18, 8)) as price
    from facts.fct_llm_call
    group by conversation_id
),

decided as (
    select
        cast(date_trunc('week', f.first_message_date) as date) as report_date,
        c.taxonomy_version,
        c.category,
        c.source,
        f.resolves > 0 as is_resolved,
        f.outcome = 'contained' as is_contained,
        f.bot_messages > 0 and f.user_messages > 0 as has_bot,
        f.resolution_last_s,
        f.csat_score,
        s.tokens,
        s.price
    from lake.categories as c
    inner join facts.fct_conversation as f
        on c.partition = f.partition and c.conversation_id = f.conversation_id
    left join spent as s on c.conversation_id = s.conversation_id
    where f.is_counted and not f.is_empty
),

weekly as (
    select
        report_date,
        taxonomy_version,
        category,
        count(*) as conversations,
        cast(sum(case when source = 'llm' then 1 else 0 end) as bigint) as by_llm,
        cast(sum(case when source = 'rule' then 1 else 0 end) as bigint) as by_rule,
        cast(sum(case when source = 'human' then 1 else 0 end) as bigint) as by_human,
        cast(sum(case when is_resolved then 1 else 0 end) as bigint) as resolved,
        cast(sum(case when has_bot then 1 else 0 end) as bigint) as bot_conversations,
        cast(sum(case when is_contained then 1 else 0 end) as bigint) as contained,
        quantile_cont(resolution_last_s, 0.5) as resolution_p50_s,
        count(csat_score) as csat_answered,
        cast(sum(case when csat_score >= 4 then 1 else 0 end) as bigint) as csat_positive,
        cast(sum(tokens) as bigint) as tokens,
        cast(sum(price) as decimal(18, 8)) as price
    from decided
    group by report_date, taxonomy_version, category
),

bound as (
    select
        taxonomy_version,
        min(report_date) as first_date,
        max(report_date) as last_date
    from weekly
    group by taxonomy_version
),

week as (
    select
        taxonomy_version,
        cast(unnest(generate_series(first_date, last_date, interval 7 day)) as date) as report_date
    from bound
),

name as (
    select distinct
        taxonomy_version,
        category
    from weekly
),

filled as (
    select
        k.report_date,
        k.taxonomy_version,
        n.category,
        coalesce(w.conversations, 0) as conversations,
        coalesce(w.by_llm, 0) as by_llm,
        coalesce(w.by_rule, 0) as by_rule,
        coalesce(w.by_human, 0) as by_human,
        coalesce(w.resolved, 0) as resolved,
        coalesce(w.bot_conversations, 0) as bot_conversations,
        coalesce(w.contained, 0) as contained,
        w.resolution_p50_s,
        coalesce(w.csat_answered, 0) as csat_answered,
        coalesce(w.csat_positive, 0) as csat_positive,
        w.tokens,
        w.price
    from week as k
    inner join name as n on k.taxonomy_version = n.taxonomy_version
    left join weekly as w
        on
            k.report_date = w.report_date
            and k.taxonomy_version = w.taxonomy_version
            and n.category = w.category
),

total as (
    select
        report_date,
        taxonomy_version,
        cast(sum(conversations) as bigint) as of_week
    from filled
    group by report_date, taxonomy_version
),

compared as (
    select
        f.*,
        t.of_week,
        lag(f.conversations) over (
            partition by f.taxonomy_version, f.category order by f.report_date
        ) as previous,
        lag(t.of_week) over (
            partition by f.taxonomy_version, f.category order by f.report_date
        ) as previous_of_week
    from filled as f
    inner join total as t on f.report_date = t.report_date and f.taxonomy_version = t.taxonomy_version
),

pooled as (
    select
        *,
        case
            when of_week > 0 and previous_of_week > 0
                then (conversations + previous) / (of_week + previous_of_week)
        end as pooled_share
    from compared
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    taxonomy_version,
    category,
    conversations,
    of_week,
    by_llm,
    by_rule,
    by_human,
    case
        when pooled_share > 0 and pooled_share < 1
            then
                (conversations / of_week - previous / previous_of_week)
                / sqrt(pooled_share * (1 - pooled_share) * (1 / of_week + 1 / previous_of_week))
    end as wow_z,
    resolved,
    bot_conversations,
    contained,
    resolution_p50_s,
    csat_answered,
    csat_positive,
    tokens,
    price
from pooled

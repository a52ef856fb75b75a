-- A taxonomy version whose conversations over all weeks are not those it categorised, or with a row that does
-- not add up.
with decided as (
    select
        c.taxonomy_version,
        count(*) as conversations
    from lake.categories as c
    inner join facts.fct_conversation as f
        on c.partition = f.partition and c.conversation_id = f.conversation_id
    where f.is_counted and not f.is_empty
    group by c.taxonomy_version
),

mart_total as (
    select
        taxonomy_version,
        cast(sum(conversations) as bigint) as conversations,
        max(
            case
                when by_llm + by_rule + by_human <> conversations then 1
                when resolved > conversations or contained > conversations then 1
                when contained > bot_conversations or csat_positive > csat_answered then 1
                else 0
            end
        ) as is_wrong
    from marts.category
    group by taxonomy_version
)

select
    coalesce(d.taxonomy_version, m.taxonomy_version) as taxonomy_version,
    d.conversations,
    m.conversations as mart_conversations,
    m.is_wrong
from decided as d
full outer join mart_total as m on d.taxonomy_version = m.taxonomy_version
where d.conversations is distinct from m.conversations or m.is_wrong = 1

-- How often each channel, language and category of live conversations occurs: what a page can be filtered by.
with value as (
    select
        'channel' as dimension,
        channel as name
    from facts.fct_conversation
    where is_counted
    union all
    select
        'language' as dimension,
        language as name
    from facts.fct_conversation
    where is_counted
    union all
    select
        'category' as dimension,
        coalesce(category, 'not categorised') as name
    from facts.fct_conversation
    where is_counted
)

select
    dimension,
    name,
    count(*) as conversations
from value
group by dimension, name
order by dimension asc, conversations desc, name asc

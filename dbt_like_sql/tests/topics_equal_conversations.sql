-- A conversation that has no topic or two, a week whose topics are not its conversations, or a topic of a
-- conversation that has no terms.
with told as (
    select
        cast(date_trunc('week', report_date) as date) as report_date,
        topic,
        count(*) as conversations
    from marts.topic_conversation
    group by cast(date_trunc('week', report_date) as date), topic
),

counted as (
    select
        partition,
        conversation_id
    from facts.fct_conversation
    where is_counted and not is_empty
),

broken_conversation as (
    select
        coalesce(f.conversation_id, t.conversation_id) as what,
        'the conversation has no topic, or the topic no conversation' as problem
    from counted as f
    full outer join marts.topic_conversation as t
        on f.partition = t.partition and f.conversation_id = t.conversation_id
    where f.conversation_id is null or t.conversation_id is null
),

broken_week as (
    select
        cast(coalesce(t.report_date, w.report_date) as varchar) as what,
        'the week does not add up' as problem
    from told as t
    full outer join marts.topic_week as w on t.report_date = w.report_date and t.topic = w.topic
    where coalesce(t.conversations, 0) <> coalesce(w.conversations, 0) or w.conversations > w.of_week
),

named as (
    select distinct topic
    from marts.topic
),

broken_topic as (
    select
        cast(t.topic as varchar) as what,
        'the topic has no terms' as problem
    from told as t
    left join named as n on t.topic = n.topic
    where t.topic > 0 and n.topic is null
)

select * from broken_conversation
union all
select * from broken_week
union all
select * from broken_topic

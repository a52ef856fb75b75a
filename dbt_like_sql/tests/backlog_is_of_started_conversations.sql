-- A local day, channel and language with a backlog below zero, or above what has started until then; or a
-- last day whose backlog is not that of the facts.
with running as (
    select
        report_date,
        channel,
        language,
        backlog_open,
        sum(conversations_started) over (
            partition by channel, language order by report_date
        ) as started,
        row_number() over (partition by channel, language order by report_date desc) as back
    from marts.volume
),

last_status as (
    select
        partition,
        conversation_id,
        max_by(to_status, event_no) as status
    from facts.fct_status_event
    where local_date <= (select max(local_date) from facts.fct_traffic)
    group by partition, conversation_id
),

standing as (
    select
        c.channel,
        c.language,
        count(*) as backlog
    from facts.fct_conversation as c
    left join last_status as s on c.partition = s.partition and c.conversation_id = s.conversation_id
    where
        c.is_counted
        and not c.is_empty
        and coalesce(s.status, 'open') not in ('resolved', 'abandoned')
        and (c.closed_date is null or c.closed_date > (select max(local_date) from facts.fct_traffic))
    group by c.channel, c.language
)

select
    r.report_date,
    r.channel,
    r.language,
    r.backlog_open,
    r.started,
    s.backlog as standing
from running as r
left join standing as s on r.channel = s.channel and r.language = s.language
where
    r.backlog_open < 0
    or r.backlog_open > r.started
    or (r.back = 1 and r.backlog_open <> coalesce(s.backlog, 0))

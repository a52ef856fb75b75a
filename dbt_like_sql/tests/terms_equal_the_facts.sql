-- A week, channel and language whose terms do not have the totals of the facts, whose places have gaps or end
-- after 50, or a term whose occurrences are not those of the facts, or fewer than 20.
with fact as (
    select
        channel,
        language,
        term,
        cast(sum(occurrences) as bigint) as n
    from facts.fct_term
    group by channel, language, term
),

pair as (
    select
        channel,
        language,
        cast(sum(n) as bigint) as n
    from fact
    group by channel, language
),

listed as (
    select
        report_date,
        channel,
        language,
        max(place) as last_place,
        count(*) as terms,
        count(distinct term) as distinct_terms
    from marts.terms
    group by report_date, channel, language
),

broken_list as (
    select
        report_date,
        channel,
        language,
        cast(null as varchar) as term
    from listed
    where last_place <> terms or terms <> distinct_terms or last_place > 50
)

select
    m.report_date,
    m.channel,
    m.language,
    m.term
from marts.terms as m
left join fact as f on m.channel = f.channel and m.language = f.language and m.term = f.term
left join pair as p on m.channel = p.channel and m.language = p.language
where
    m.n_window + m.n_ref is distinct from f.n
    or m.window_total + m.ref_total is distinct from p.n
    or m.n_window + m.n_ref < 20
    or m.n_window > m.window_total
    or (m.z > 0 and m.n_window * m.ref_total < m.n_ref * m.window_total)
union all
select * from broken_list

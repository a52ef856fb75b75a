-- The 50 terms that set a week (its Monday) apart from all other weeks of the same channel and language: most
-- extreme by z first, equals by name. z is that of the difference of the log-odds with an informative
-- Dirichlet prior (Monroe, Colaresi and Quinn 2008): 500 terms in all, spread like those of all weeks. It is
-- positive where the week has more of the term. Only terms with 20 occurrences in all; a week without any
-- other week has no rows.
with dated as (
    select
        cast(date_trunc('week', local_date) as date) as report_date,
        channel,
        language,
        term,
        occurrences
    from facts.fct_term
),

weekly as (
    select
        report_date,
        channel,
        language,
        term,
        cast(sum(occurrences) as bigint) as n
    from dated
    group by report_date, channel, language, term
),

week_total as (
    select
        report_date,
        channel,
        language,
        cast(sum(n) as bigint) as n
    from weekly
    group by report_date, channel, language
),

pair_total as (
    select
        channel,
        language,
        cast(sum(n) as bigint) as n
    from week_total
    group by channel, language
),

term_total as (
    select
        channel,
        language,
        term,
        cast(sum(n) as bigint) as n
    from weekly
    group by channel, language, term
),

compared as (
    select
        w.report_date,
        w.channel,
        w.language,
        t.term,
        coalesce(k.n, 0) as n_window,
        t.n - coalesce(k.n, 0) as n_ref,
        w.n as window_total,
        p.n - w.n as ref_total,
        t.n * 500 / p.n as weight
    from week_total as w
    inner join pair_total as p on w.channel = p.channel and w.language = p.language
    inner join term_total as t on w.channel = t.channel and w.language = t.language
    left join weekly as k
        on
            w.report_date = k.report_date
            and w.channel = k.channel
            and w.language = k.language
            and t.term = k.term
    where t.n >= 20 and t.n < p.n and p.n > w.n
),

scored as (
    select
        *,
        (
            ln((n_window + weight) / (window_total - n_window + 500 - weight))
            - ln((n_ref + weight) / (ref_total - n_ref + 500 - weight))
        ) / sqrt(1 / (n_window + weight) + 1 / (n_ref + weight)) as z
    from compared
),

ranked as (
    select
        *,
        row_number() over (
            partition by report_date, channel, language
            order by case when z < 0 then -z else z end desc, term asc
        ) as place
    from scored
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    place,
    term,
    n_window,
    n_ref,
    window_total,
    ref_total,
    z
from ranked
where place <= 50

-- A row of response times whose percentiles do not rise, whose mean is too large, or with too many hits.
select
    report_date,
    channel,
    language,
    clock,
    hours,
    n,
    n_open,
    p50_s,
    p90_s,
    p95_s,
    p99_s,
    max_s,
    within_target_1,
    decided_1
from marts.response
where
    (n = 0) <> (p50_s is null)
    or (n = 0) <> (avg_s is null)
    or p50_s < 0
    or p50_s > p90_s
    or p90_s > p95_s
    or p95_s > p99_s
    or p99_s > max_s
    -- the mean is rounded once more than the longest
    or avg_s > max_s + 1e-6
    or within_target_1 > within_target_2
    or within_target_2 > within_target_3
    or within_target_3 > n
    or decided_1 < n
    or decided_2 < n
    or decided_3 < n
    or decided_1 > n + n_open
    or decided_2 > decided_1
    or decided_3 > decided_2

-- score: auroc
-- row: one run in `scores`
-- formula: P(score of a positive > score of a negative) + P(equal) / 2, by mid-ranks
-- higher: better separation
-- source: Mann-Whitney statistic; standard error by DeLong et al. 1988, doi 10.2307/2531595
-- reads: scores(run_id, doc_id, score); documents(run_id, doc_id, label)
-- returns: run_id VARCHAR, n_positive BIGINT, n_negative BIGINT, undefined_positive BIGINT, undefined_negative BIGINT,
--   auroc DOUBLE [probability], standard_error DOUBLE [probability]
-- parameter: scores VARCHAR; name of a table, view or CTE with run_id, doc_id, score, as every document score returns
-- note: `with s as (from min_k('demo')) from auroc('s')`. Documents without a label are left out. NULL and NaN scores
--   are counted as undefined and left out; -inf and +inf are valid. auroc is NULL where a class is empty, the standard
--   error where one has a single document. It is 0 where the classes separate: take no interval from it there.
with input_scores as (
  select run_id, doc_id, score::double as score
  from query_table($scores)
),
labelled as (
  select s.run_id, d.label = 1 as positive, case when not isnan(s.score) then s.score end as value
  from input_scores s
  join documents d on d.run_id = s.run_id and d.doc_id = s.doc_id
  where d.label is not null
),
counted as (
  select
    run_id,
    count(value) filter (positive) as n_positive,
    count(value) filter (not positive) as n_negative,
    count(*) filter (positive and value is null) as undefined_positive,
    count(*) filter (not positive and value is null) as undefined_negative
  from labelled
  group by run_id
),
ranked as (
  select
    run_id,
    positive,
    rank() over (partition by run_id order by value)
      + (count(*) over (partition by run_id, value) - 1) / 2.0::double as rank_all,
    rank() over (partition by run_id, positive order by value)
      + (count(*) over (partition by run_id, positive, value) - 1) / 2.0::double as rank_own
  from labelled
  where value is not null
),
-- A document's place is the share of the other class that lies below it, ties counted by half.
placed as (
  select run_id, positive, (rank_all - rank_own) / case when positive then n_negative else n_positive end as place
  from ranked
  join counted using (run_id)
  where n_positive > 0 and n_negative > 0
),
summed as (
  select
    run_id,
    avg(place) filter (positive) as auroc,
    var_samp(place) filter (positive) as variance_positive,
    var_samp(place) filter (not positive) as variance_negative
  from placed
  group by run_id
)
select
  c.run_id,
  c.n_positive,
  c.n_negative,
  c.undefined_positive,
  c.undefined_negative,
  s.auroc,
  sqrt(s.variance_positive / c.n_positive + s.variance_negative / c.n_negative) as standard_error
from counted c
left join summed s using (run_id)
order by c.run_id;

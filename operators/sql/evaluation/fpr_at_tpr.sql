-- score: fpr_at_tpr
-- row: one run in `scores` at one level
-- formula: min FPR over the thresholds c ("score >= c") with TPR >= level: achieved, never interpolated
-- higher: more false alarms
-- source: ODIN, Liang et al. 2018, arXiv 1706.02690
-- reads: scores(run_id, doc_id, score); documents(run_id, doc_id, label)
-- returns: run_id VARCHAR, level DOUBLE [share of positives], fpr DOUBLE [share of negatives],
--   tpr DOUBLE [share of positives], threshold DOUBLE [as the score], n_positive BIGINT, n_negative BIGINT
-- parameter: scores VARCHAR; name of a table, view or CTE with run_id, doc_id, score, as every document score returns
-- parameter: levels DOUBLE[] = [0.95] in [0, 1]; true-positive rates demanded
-- note: equal scores are one threshold; tpr is what was achieved. NULL and NaN scores are left out (auroc counts them).
--   fpr is NULL where a class is empty.
with input_scores as (
  select run_id, doc_id, score::double as score
  from query_table($scores)
),
steps as (
  select
    s.run_id,
    s.score as value,
    count(*) filter (d.label = 1) as positives,
    count(*) filter (d.label = 0) as negatives
  from input_scores s
  join documents d on d.run_id = s.run_id and d.doc_id = s.doc_id
  where d.label is not null and not isnan(s.score)
  group by s.run_id, s.score
),
curve as (
  select
    run_id,
    value,
    sum(positives) over above as true_positives,
    sum(negatives) over above as false_positives,
    sum(positives) over (partition by run_id) as n_positive,
    sum(negatives) over (partition by run_id) as n_negative
  from steps
  window above as (partition by run_id order by value desc)
),
demanded as (
  select unnest($levels::double[]) as demanded_tpr
),
reached as (
  select
    c.run_id,
    d.demanded_tpr,
    any_value(c.n_positive)::bigint as n_positive,
    any_value(c.n_negative)::bigint as n_negative,
    min(c.false_positives) filter (c.true_positives / c.n_positive >= d.demanded_tpr) as alarms,
    min(c.true_positives) filter (c.true_positives / c.n_positive >= d.demanded_tpr) as hits,
    max(c.value) filter (c.true_positives / c.n_positive >= d.demanded_tpr) as threshold
  from curve c
  cross join demanded d
  group by c.run_id, d.demanded_tpr
)
select
  run_id,
  demanded_tpr as level,
  alarms / nullif(n_negative, 0) as fpr,
  case when n_negative > 0 then hits / nullif(n_positive, 0) end as tpr,
  threshold,
  n_positive,
  n_negative
from reached
order by run_id, level;

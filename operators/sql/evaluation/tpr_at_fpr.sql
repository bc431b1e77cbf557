-- score: tpr_at_fpr
-- row: one run in `scores` at one level
-- formula: max TPR over the thresholds c ("score >= c") with FPR <= level: achieved, never interpolated
-- higher: better detection at few false alarms
-- source: Carlini et al. 2022, arXiv 2112.03570
-- reads: scores(run_id, doc_id, score); documents(run_id, doc_id, label)
-- returns: run_id VARCHAR, level DOUBLE [share of negatives], tpr DOUBLE [share of positives],
--   fpr DOUBLE [share of negatives], threshold DOUBLE [as the score], n_positive BIGINT, n_negative BIGINT,
--   resolvable BOOLEAN
-- parameter: scores VARCHAR; name of a table, view or CTE with run_id, doc_id, score, as every document score returns
-- parameter: levels DOUBLE[] = [0.001, 0.01, 0.05] in [0, 1]; false-positive rates allowed
-- note: equal scores are one threshold. fpr is what was achieved; without any threshold tpr and fpr are 0 and threshold
--   is NULL. FPR moves in steps of 1 / n_negative: below that (resolvable = false) the level means no false alarm at
--   all. NULL and NaN scores are left out (auroc counts them). tpr is NULL where a class is empty.
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
allowed as (
  select unnest($levels::double[]) as allowed_fpr
),
reached as (
  select
    c.run_id,
    a.allowed_fpr,
    any_value(c.n_positive)::bigint as n_positive,
    any_value(c.n_negative)::bigint as n_negative,
    coalesce(max(c.true_positives) filter (c.false_positives / c.n_negative <= a.allowed_fpr), 0) as hits,
    coalesce(max(c.false_positives) filter (c.false_positives / c.n_negative <= a.allowed_fpr), 0) as alarms,
    min(c.value) filter (c.false_positives / c.n_negative <= a.allowed_fpr) as threshold
  from curve c
  cross join allowed a
  group by c.run_id, a.allowed_fpr
)
select
  run_id,
  allowed_fpr as level,
  case when n_negative > 0 then hits / nullif(n_positive, 0) end as tpr,
  case when n_positive > 0 then alarms / nullif(n_negative, 0) end as fpr,
  threshold,
  n_positive,
  n_negative,
  1.0::double / n_negative <= allowed_fpr as resolvable
from reached
order by run_id, level;

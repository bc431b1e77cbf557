-- score: instability_position
-- row: one document of the run
-- formula: t* / T of a completion of T steps, t* the step (1 to T) where dynamic_instability has its maximum, the first
--   one under ties
-- higher: more uncertain: a late peak is more often followed by failure, an early one by correction
-- source: Chen et al. 2026, arXiv 2602.02863
-- reads: tokens(run_id, doc_id, position, in_prompt, topk_id, topk_logprob); documents(run_id, doc_id)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [share of the completion]
-- parameter: run_id VARCHAR; the run to score
-- parameter: weight DOUBLE = 1.0 in [0, inf); as in dynamic_instability
-- parameter: top INTEGER = 0 in [0, inf); as in dynamic_instability
-- note: meant for completions whose peaks are about as high. Steps are the tokens of the completion that have a
--   prediction. NULL where dynamic_instability is.
with lists as (
  select
    doc_id,
    position,
    case when $top > 0 then topk_id[1:$top] else topk_id end as ids,
    list_transform(
      case when $top > 0 then topk_logprob[1:$top] else topk_logprob end,
      lambda x: exp(x::double)
    ) as masses
  from tokens
  where run_id = $run_id and in_prompt is not true and topk_id is not null
),
totals as (
  select doc_id, position, ids, masses, list_sum(masses) as total
  from lists
),
steps as (
  select doc_id, position, ids, list_transform(masses, lambda x: x / total) as p
  from totals
),
pairs as (
  select
    doc_id,
    row_number() over w as step,
    count(*) over (partition by doc_id) as n_steps,
    position - lag(position) over w as distance,
    ids,
    p,
    lag(ids) over w as ids_before,
    lag(p) over w as q
  from steps
  window w as (partition by doc_id order by position)
),
signals as (
  select
    doc_id,
    step,
    n_steps,
    -list_sum(list_transform(p, lambda x: case when x > 0 then x * ln(x) else 0 end)) as h,
    list_sum(list_transform(ids, lambda v, i: case when p[i] > 0 then
      p[i] * ln(2 * p[i] / (p[i] + coalesce(q[list_position(ids_before, v)], 0))) / 2 else 0 end)) as here,
    list_sum(list_transform(ids_before, lambda v, i: case when q[i] > 0 then
      q[i] * ln(2 * q[i] / (q[i] + coalesce(p[list_position(ids, v)], 0))) / 2 else 0 end)) as before
  from pairs
  where distance = 1
),
peaks as (
  select
    doc_id,
    max({'height': here + before + $weight::double * h, 'place': -step}) as peak,
    any_value(n_steps) as n_steps
  from signals
  group by doc_id
)
select $run_id::varchar as run_id, d.doc_id, -s.peak.place / s.n_steps as score
from documents d
left join peaks s on s.doc_id = d.doc_id
where d.run_id = $run_id;

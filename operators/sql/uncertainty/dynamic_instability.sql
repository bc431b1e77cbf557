-- score: dynamic_instability
-- row: one document of the run
-- formula: max over t of JSD(p_t, p_{t-1}) + weight * H(p_t), p_t the prediction of the completion's t-th token over
--   its k most likely tokens, renormalised; a token that one of two lists lacks has probability 0 there
-- higher: more uncertain: the reasoning is more likely to fail
-- source: Chen et al. 2026, arXiv 2602.02863
-- reads: tokens(run_id, doc_id, position, in_prompt, topk_id, topk_logprob); documents(run_id, doc_id)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats]
-- parameter: run_id VARCHAR; the run to score
-- parameter: weight DOUBLE = 1.0 in [0, inf); the paper's lambda; that 1 is its value is not settled
-- parameter: top INTEGER = 0 in [0, inf); entries of the list that are used, 0 for all that the run kept
-- note: the value grows with k, so compare runs with lists of one length. The completion: the tokens after the prompt
--   where the run has prompts, all tokens elsewhere; its first step has none before it and counts from the second on.
--   See instability_position for the place of the maximum. NULL where there are no two steps in a row, and without the
--   columns `topk`.
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
  select doc_id, ids, p, lag(ids) over w as ids_before, lag(p) over w as q
  from steps
  window w as (partition by doc_id order by position)
  qualify lag(position) over w = position - 1
),
signals as (
  select
    doc_id,
    -list_sum(list_transform(p, lambda x: case when x > 0 then x * ln(x) else 0 end)) as h,
    list_sum(list_transform(ids, lambda v, i: case when p[i] > 0 then
      p[i] * ln(2 * p[i] / (p[i] + coalesce(q[list_position(ids_before, v)], 0))) / 2 else 0 end)) as here,
    list_sum(list_transform(ids_before, lambda v, i: case when q[i] > 0 then
      q[i] * ln(2 * q[i] / (q[i] + coalesce(p[list_position(ids, v)], 0))) / 2 else 0 end)) as before
  from pairs
),
peaks as (
  select doc_id, max(here + before + $weight::double * h) as peak
  from signals
  group by doc_id
)
select $run_id::varchar as run_id, d.doc_id, s.peak as score
from documents d
left join peaks s on s.doc_id = d.doc_id
where d.run_id = $run_id;

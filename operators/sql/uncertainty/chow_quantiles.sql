-- score: chow_quantiles
-- row: one document of the run
-- formula: quantiles of -ln p_t over the scored tokens of the completion, a column each
-- higher: more uncertain
-- source: Chow-Quantile, Gupta et al. 2024, arXiv 2404.10136
-- reads: tokens(run_id, doc_id, in_prompt, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, n_scored BIGINT, q_0 DOUBLE [nats], q_10 DOUBLE [nats], q_20 DOUBLE [nats],
--   q_30 DOUBLE [nats], q_40 DOUBLE [nats], q_50 DOUBLE [nats], q_60 DOUBLE [nats], q_70 DOUBLE [nats],
--   q_80 DOUBLE [nats], q_90 DOUBLE [nats], q_100 DOUBLE [nats]
-- parameter: run_id VARCHAR; the run to score
-- note: the features of the paper's learned rules for deferring to a larger model. The completion: the tokens after the
--   prompt where the run has prompts, all tokens elsewhere; n_scored is how many of them are scored, and the quantiles
--   are NULL where that is 0. Interpolated linearly, which is not settled by the paper.
with quantiles as (
  select
    doc_id,
    count(logprob) filter (in_prompt is not true) as n_scored,
    quantile_cont(-logprob::double, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])
      filter (in_prompt is not true) as q
  from tokens
  where run_id = $run_id
  group by doc_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  n_scored,
  q[1] as q_0,
  q[2] as q_10,
  q[3] as q_20,
  q[4] as q_30,
  q[5] as q_40,
  q[6] as q_50,
  q[7] as q_60,
  q[8] as q_70,
  q[9] as q_80,
  q[10] as q_90,
  q[11] as q_100
from quantiles;

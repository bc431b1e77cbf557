-- score: renyi_divergence
-- row: one document of the run
-- formula: -(1/n) sum_t (ln V - 2 ln sum_v sqrt(q_v)) over the n predictions of the completion: minus the Renyi
--   divergence of order 1/2 from uniform, q the prediction at temperature 2; ln sum_v sqrt(q_v) = 3/4 renyi_quarter -
--   1/4 renyi_half
-- higher: more uncertain: nearer to the uniform distribution over the V vocabulary ids
-- source: Rainproof, Darrin et al. 2022, arXiv 2212.09171
-- reads: tokens(run_id, doc_id, in_prompt, renyi_half, renyi_quarter); runs(run_id, vocab_size)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: parity BOOLEAN = false; as LM-Polygraph's RenyiNeg at efea882, which subtracts ln V where the divergence
--   adds it
-- note: the paper's divergence with the other sign; at most 0. Order and temperature are the paper's and LM-Polygraph's
--   defaults, no others can be had from the columns. Parity adds the constant 2 ln V, so it changes no order within a
--   vocabulary; that code also returned the divergence itself, and later ones add ln V and negate. The completion: the
--   tokens after the prompt where the run has prompts, all tokens elsewhere. NULL where no token of the completion is
--   scored, and without the columns `renyi`.
with means as (
  select
    doc_id,
    avg(0.75 * renyi_quarter::double - 0.25 * renyi_half::double) filter (in_prompt is not true) as mean_log_sum
  from tokens
  where run_id = $run_id
  group by doc_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  2 * mean_log_sum
    + case when $parity then 1 else -1 end * ln((select max(vocab_size) from runs where run_id = $run_id)) as score
from means;

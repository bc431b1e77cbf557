-- score: self_certainty
-- row: one document of the run
-- formula: -(1/n) sum_t (-(mean over v of ln p_v) - ln V) over the n predictions of the completion: minus the mean
--   Kullback-Leibler divergence of the prediction from the uniform distribution over the V vocabulary ids
-- higher: more uncertain
-- source: Self-Certainty, Kang et al. 2025, arXiv 2502.18581
-- reads: tokens(run_id, doc_id, in_prompt, logprob_uniform); runs(run_id, vocab_size)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- note: the paper's certainty with the other sign, as in LM-Polygraph. The completion: the tokens after the prompt
--   where the run has prompts, all tokens elsewhere. V is the width of the softmax; where logits are -inf, the authors
--   count the finite ones only, so the score differs by a constant there. At most 0, and 0 for uniform predictions.
--   NULL where no token of the completion is scored, and without the columns `renyi`.
with means as (
  select doc_id, avg(logprob_uniform) filter (in_prompt is not true) as mean_uniform
  from tokens
  where run_id = $run_id
  group by doc_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  mean_uniform + ln((select max(vocab_size) from runs where run_id = $run_id)) as score
from means;

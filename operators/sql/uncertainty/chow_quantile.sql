-- score: chow_quantile
-- row: one document of the run
-- formula: the quantile of -ln p_t over the scored tokens of the completion
-- higher: more uncertain
-- source: Chow-Quantile, Gupta et al. 2024, arXiv 2404.10136
-- reads: tokens(run_id, doc_id, in_prompt, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats]
-- parameter: run_id VARCHAR; the run to score
-- parameter: quantile DOUBLE = 0.9 in [0, 1]; from 0 (the surest token) to 1 (the least sure one)
-- note: the completion: the tokens after the prompt where the run has prompts, all tokens elsewhere. Between two tokens
--   it is interpolated linearly, which is not settled by the paper. The best quantile differs by task there, so 0.9 is
--   no more than a place to start; chow_quantiles has many. Chow-Sum is sequence_nll, Chow-Average is
--   perplexity_estimator. NULL where no token of the completion is scored.
with quantiles as (
  select doc_id, quantile_cont(-logprob::double, $quantile::double) filter (in_prompt is not true) as surprisal
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, surprisal as score
from quantiles;

-- score: sequence_nll
-- row: one document of the run
-- formula: -sum_t ln p_t over the scored tokens of the completion
-- higher: more uncertain
-- source: G-NLL, Aichberger et al. 2024, arXiv 2412.15176; maximum sequence probability in LM-Polygraph, Fadeeva et al.
--   2023, arXiv 2311.07383
-- reads: tokens(run_id, doc_id, in_prompt, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats]
-- parameter: run_id VARCHAR; the run to score
-- note: the completion: the tokens after the prompt where the run has prompts, all tokens elsewhere. It is G-NLL where
--   the completion is the model's greedy output, and Chow-Sum in work on cascades. Not divided by the length: longer
--   completions are more uncertain. Feed the end-of-sequence token to count it, as the authors do. NULL where no token
--   of the completion is scored.
with sums as (
  select doc_id, sum(logprob) filter (in_prompt is not true) as total
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, -total as score
from sums;

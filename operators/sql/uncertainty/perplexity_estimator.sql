-- score: perplexity_estimator
-- row: one document of the run
-- formula: -(1/n) sum_t ln p_t over the n scored tokens of the completion
-- higher: more uncertain
-- source: LM-Polygraph, Fadeeva et al. 2023, arXiv 2311.07383; Fomicheva et al. 2020, arXiv 2005.10608
-- reads: tokens(run_id, doc_id, in_prompt, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- note: the completion: the tokens after the prompt where the run has prompts, all tokens elsewhere. Called Perplexity
--   there, and Chow-Average in work on cascades; the perplexity of the completion is its exponential. NULL where no
--   token of the completion is scored.
with means as (
  select doc_id, avg(logprob) filter (in_prompt is not true) as mean_logprob
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, -mean_logprob as score
from means;

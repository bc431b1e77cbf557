-- score: loss
-- row: one document of the run
-- formula: (1/n) sum_t ln p_t over the n scored tokens
-- higher: more member-like
-- source: Yeom et al. 2018, arXiv 1709.01604
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- rollup: logprob_sum / n_scored
-- note: NULL where no token is scored. The same number ranks machine-written text (log-likelihood) and texts by
--   perplexity, which is exp(-score).
with means as (
  select doc_id, avg(logprob) as mean_logprob
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, mean_logprob as score
from means;

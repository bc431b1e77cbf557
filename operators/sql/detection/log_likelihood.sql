-- score: log_likelihood
-- row: one document of the run
-- formula: (1/n) sum_t ln p_t over the n scored tokens
-- higher: more machine-like
-- source: Solaiman et al. 2019, arXiv 1908.09203; as a baseline in DetectGPT, arXiv 2301.11305
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- rollup: logprob_sum / n_scored
-- note: the same number as loss, which ranks members. NULL where no token is scored.
with means as (
  select doc_id, avg(logprob) as mean_logprob
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, mean_logprob as score
from means;

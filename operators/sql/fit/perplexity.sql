-- score: perplexity
-- row: one document of the run
-- formula: exp(-(1/n) sum_t ln p_t) over the n scored tokens
-- higher: worse fit
-- source: Jelinek et al. 1977, doi 10.1121/1.2016299
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [equally likely tokens]
-- parameter: run_id VARCHAR; the run to score
-- rollup: exp(-logprob_sum / n_scored)
-- note: depends on the tokenizer: compare models of different vocabularies by bits_per_byte. NULL where no token is
--   scored.
with means as (
  select doc_id, avg(logprob) as mean_logprob
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, exp(-mean_logprob) as score
from means;

-- score: surprisal_gap
-- row: one document of the run
-- formula: (1/n) sum_t (ln p_t + entropy_t): how much less surprising the tokens are than the model expects
-- higher: more machine-like
-- source: the numerator of Fast-DetectGPT, Bao et al. 2024, arXiv 2310.05130, per token; Meister et al. 2023,
--   arXiv 2202.00666
-- reads: tokens(run_id, doc_id, logprob, entropy)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- rollup: (logprob_sum + entropy_sum) / n_scored
-- note: signed, where typicality takes the size of each token's gap: gaps of both signs cancel out. About 0 for text
--   sampled from this model at temperature 1. Unlike fast_detectgpt it is not divided by the spread that the model
--   expects. NULL where no token is scored.
with means as (
  select doc_id, avg(logprob::double + entropy) as mean_gap
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, mean_gap as score
from means;

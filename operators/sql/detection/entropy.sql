-- score: entropy
-- row: one document of the run
-- formula: (1/n) sum_t entropy_t over the n predictions
-- higher: more machine-like, as published; on text of today's models the other way round
-- source: GLTR, Gehrmann et al. 2019, arXiv 1906.04043; as a baseline in DetectGPT, arXiv 2301.11305
-- reads: tokens(run_id, doc_id, entropy)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- rollup: entropy_sum / n_scored
-- note: the sign is the one of the published baselines. Models write text of low entropy for themselves, so the area
--   under the curve is often below 0.5: report it, or both orientations, and choose none by the test set. NULL where no
--   token is scored.
with means as (
  select doc_id, avg(entropy) as mean_entropy
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, mean_entropy as score
from means;

-- score: rank
-- row: one document of the run
-- formula: -(1/n) sum_t rank_t, rank 1 for the most likely token
-- higher: more machine-like
-- source: GLTR, Gehrmann et al. 2019, arXiv 1906.04043; as a baseline in DetectGPT, arXiv 2301.11305
-- reads: tokens(run_id, doc_id, rank)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [ranks per token]
-- parameter: run_id VARCHAR; the run to score
-- note: a few tokens of rank ten thousand decide it; log_rank is the steadier one. Ties have the best rank here, any
--   order in the authors' sort. NULL where no token is scored.
with means as (
  select doc_id, avg(rank) as mean_rank
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, -mean_rank as score
from means;

-- score: max_prob_gap
-- row: one document of the run
-- formula: mean of (logprob_max - logprob_second) over the scored tokens
-- higher: more member-like
-- source: Max-Prob-Gap, Li et al. 2024, arXiv 2411.02902
-- reads: tokens(run_id, doc_id, logprob_max, logprob_second)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- note: the second is the largest value different from the first, as in the authors' code (VL-MIA), so that ties at the
--   top do not give 0. A token whose whole distribution is uniform has no second and is left out. NULL where no
--   token has both, and in runs without the groups extremes and renyi.
with means as (
  select doc_id, avg(logprob_max::double - logprob_second) as gap
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, gap as score
from means;

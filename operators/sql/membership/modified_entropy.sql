-- score: modified_entropy
-- row: one document of the run
-- formula: -mean of M_t, M = -(1 - p_y) ln p_y - sum_{v != y} p_v ln(1 - p_v), y the token fed
-- higher: more member-like
-- source: Song & Mittal 2021, arXiv 2003.10595; for language models Li et al. 2024, arXiv 2411.02902
-- reads: tokens(run_id, doc_id, logprob, rest_entropy)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- note: theirs is lower for members, so the sign is turned. The authors' code adds a small constant inside the
--   logarithms and averages with nanmean; nothing is clamped here. NULL where no token is scored, and in runs without
--   the group renyi.
with means as (
  select doc_id, avg((1 - exp(logprob::double)) * -logprob + rest_entropy) as modified
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, -modified as score
from means;

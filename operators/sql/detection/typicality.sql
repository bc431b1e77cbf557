-- score: typicality
-- row: one document of the run
-- formula: -(1/n) sum_t |-ln p_t - entropy_t|, the distance of surprisal from what the model expects it to be
-- higher: more machine-like
-- source: the typical set of Meister et al. 2023, arXiv 2202.00666, read as a score
-- reads: tokens(run_id, doc_id, logprob, entropy)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- note: the paper samples by this distance and proposes no detector: the mean over a text is ours, and so is the sign,
--   by which text that keeps to the typical set is like sampled text. At most 0. NULL where no token is scored.
with means as (
  select doc_id, avg(abs(logprob::double + entropy)) as mean_distance
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, -mean_distance as score
from means;

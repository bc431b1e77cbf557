-- score: lrr
-- row: one document of the run
-- formula: -(mean of ln p_t) / (mean of ln rank_t)
-- higher: more machine-like
-- source: DetectLLM, Su et al. 2023, arXiv 2306.05540
-- reads: tokens(run_id, doc_id, logprob, rank)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [ratio]
-- parameter: run_id VARCHAR; the run to score
-- rollup: case when log_rank_sum = 0 then 'infinity'::double else -logprob_sum / log_rank_sum end
-- note: a ratio of means. +inf, the most machine-like, where every token has rank 1. NULL where no token is scored.
with means as (
  select doc_id, avg(logprob) as mean_logprob, avg(ln(rank)) as mean_log_rank
  from tokens
  where run_id = $run_id
  group by doc_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  case when mean_log_rank = 0 then 'infinity'::double else -mean_logprob / mean_log_rank end as score
from means;

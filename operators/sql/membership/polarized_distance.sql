-- score: polarized_distance
-- row: one document of the run
-- formula: mean of the smallest ln p_t - mean of the largest, max(1, floor(n * low)) and max(1, floor(n * high)) of n
-- higher: more member-like
-- source: the uncalibrated part of PAC, Ye et al. 2024, arXiv 2405.11930
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: low DOUBLE = 0.3 in (0, 1]; share of the tokens at the unlikely end
-- parameter: high DOUBLE = 0.05 in (0, 1]; share of the tokens at the likely end
-- note: the paper's distance is the largest less the smallest and lower for members, so the sign is turned. k of both
--   ends as in the authors' code; mia_llms_benchmark takes `[-0:]`, the whole text, where the likely end is empty. Both
--   ends are found as in min_k. NULL where no token is scored.
with gathered as (
  select doc_id, list(logprob) filter (logprob is not null) as logprobs
  from tokens
  where run_id = $run_id
  group by doc_id
),
cut as (
  select
    doc_id,
    logprobs,
    if($low >= 0, greatest(floor(len(logprobs) * $low::double), 1), null) as k,
    if($high >= 0, greatest(floor(len(logprobs) * $high::double), 1), null) as k_top,
    list_aggregate(logprobs, 'quantile_disc', $low::double)::double as t,
    list_aggregate(logprobs, 'quantile_disc', (-$high)::double)::double as t_top
  from gathered
),
ends as (
  select
    *,
    list_filter(logprobs, lambda x: x < t) as below,
    list_filter(logprobs, lambda x: x > t_top) as above
  from cut
),
means as (
  select
    doc_id,
    (coalesce(list_sum(below), 0) + case when len(below) >= k then 0 else (k - len(below)) * t end) / k as smallest,
    (coalesce(list_sum(above), 0) + case when len(above) >= k_top then 0 else (k_top - len(above)) * t_top end) / k_top
      as largest
  from ends
)
select $run_id::varchar as run_id, doc_id, nullif(smallest - largest, 'nan'::double) as score
from means;

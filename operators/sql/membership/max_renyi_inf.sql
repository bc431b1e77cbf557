-- score: max_renyi_inf
-- row: one document of the run
-- formula: -mean of the k largest H_t, H = -ln max_v p_v (Renyi order infinity),
--   k = max(1, floor(n * ratio)) of n tokens
-- higher: more member-like
-- source: MaxRenyi-K%, Li et al. 2024, arXiv 2411.02902
-- reads: tokens(run_id, doc_id, logprob_max)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: ratio DOUBLE = 0.2 in [0, 1]; share of the tokens that is averaged; 0 is the most uncertain token alone
-- note: as max_renyi, of order infinity. NULL where no token is scored, and in runs without the group extremes.
with gathered as (
  select doc_id, list(-logprob_max) filter (logprob_max is not null) as entropies
  from tokens
  where run_id = $run_id
  group by doc_id
),
cut as (
  select
    doc_id,
    entropies,
    if($ratio >= 0, greatest(floor(len(entropies) * $ratio::double), 1), null) as k,
    list_aggregate(entropies, 'quantile_disc', (-$ratio)::double)::double as t
  from gathered
),
high as (
  select doc_id, k, t, list_filter(entropies, lambda h: h > t) as above
  from cut
)
select
  $run_id::varchar as run_id,
  doc_id,
  -(coalesce(list_sum(above), 0) + case when len(above) >= k then 0 else (k - len(above)) * t end) / k as score
from high;

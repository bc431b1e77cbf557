-- score: max_k
-- row: one document of the run
-- formula: mean of the k largest ln p_t, k = max(1, floor(n * ratio)) of n scored tokens
-- higher: more member-like
-- source: a feature of LLM Dataset Inference, Maini et al. 2024, arXiv 2406.06443
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: ratio DOUBLE = 0.2 in (0, 1]; share of the tokens that is averaged
-- note: the authors' code names it the other way round: its `k_min_probs` are the k smallest losses, which is this
--   with the sign turned, and its `k_max_probs` are min_k. It deletes tokens whose loss is exactly 0, meant for
--   padding; they count here. Found as in min_k, from the other end. NULL where no token is scored.
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
    if($ratio >= 0, greatest(floor(len(logprobs) * $ratio::double), 1), null) as k,
    list_aggregate(logprobs, 'quantile_disc', (-$ratio)::double)::double as t
  from gathered
),
high as (
  select doc_id, k, t, list_filter(logprobs, lambda x: x > t) as above
  from cut
)
select
  $run_id::varchar as run_id,
  doc_id,
  (coalesce(list_sum(above), 0) + case when len(above) >= k then 0 else (k - len(above)) * t end) / k as score
from high;

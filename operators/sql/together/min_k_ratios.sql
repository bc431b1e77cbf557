-- score: min_k_ratios
-- row: one document of the run and one ratio
-- formula: mean of the k smallest ln p_t, k = max(1, floor(n * ratio)) of n scored tokens, for many ratios at once
-- higher: more member-like
-- source: Min-K% Prob, Shi et al. 2024, arXiv 2310.16789
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, ratio DOUBLE, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: ratios DOUBLE[] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6] in (0, 1]; shares of the tokens
-- parameter: parity BOOLEAN = false; as the authors' code: k = floor(n * ratio), and NULL where that is 0
-- note: min_k at every ratio, from one sort of each document's tokens: faster than min_k from three ratios on. By
--   default the ratios of LLM Dataset Inference. The ratio to report is not chosen on the documents that it is judged
--   by. NULL where no token is scored.
with sorted as (
  select doc_id, list_sort(list(logprob) filter (logprob is not null)) as logprobs
  from tokens
  where run_id = $run_id
  group by doc_id
),
sums as (
  select
    doc_id,
    list_transform(
      $ratios::double[],
      lambda r: if(r between 0 and 1, greatest(floor(len(logprobs) * r), if($parity, 0, 1))::bigint, null)
    ) as ks,
    logprobs
  from sorted
),
means as (
  select doc_id, list_transform(ks, lambda k: list_sum(logprobs[1:k]) / nullif(k, 0)) as scores
  from sums
)
select $run_id::varchar as run_id, doc_id, unnest($ratios::double[]) as ratio, unnest(scores) as score
from means;

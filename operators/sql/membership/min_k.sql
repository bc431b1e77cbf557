-- score: min_k
-- row: one document of the run
-- formula: mean of the k smallest ln p_t, k = max(1, floor(n * ratio)) of n scored tokens
-- higher: more member-like
-- source: Min-K% Prob, Shi et al. 2024, arXiv 2310.16789
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: ratio DOUBLE = 0.2 in (0, 1]; share of the tokens that is averaged
-- parameter: parity BOOLEAN = false; as the authors' code: k = floor(n * ratio), and NULL where that is 0
-- rollup: min_k_20 if $ratio = 0.2 and not $parity
-- note: exact without a sort. Any t that has at most k values below it and at least k at or below it gives
--   sum of the k smallest = (sum of the values below t) + (k - their number) * t,
--   and quantile_disc(ratio) is the k-th smallest or the next one, whichever way n * ratio rounds.
--   The ratio is a DOUBLE as in Python: a DECIMAL 0.7 would take one token more at n = 90, 170, 180 and others.
--   NULL where no token is scored. Holds all log-probabilities of the run in memory, some 12 bytes a token.
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
    floor(len(logprobs) * $ratio::double) as whole,
    list_aggregate(logprobs, 'quantile_disc', $ratio::double)::double as t
  from gathered
),
low as (
  select
    doc_id,
    case when whole < 0 then null when $parity then nullif(whole, 0) else greatest(whole, 1) end as k,
    t,
    list_filter(logprobs, lambda x: x < t) as below
  from cut
)
select
  $run_id::varchar as run_id,
  doc_id,
  (coalesce(list_sum(below), 0) + case when len(below) >= k then 0 else (k - len(below)) * t end) / k as score
from low;

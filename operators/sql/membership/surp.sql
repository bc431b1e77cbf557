-- score: surp
-- row: one document of the run
-- formula: mean of ln p_t over S, the tokens of entropy below max_entropy among those up to the k-th smallest ln p_t,
--   k = max(1, floor(n * ratio)) of n scored tokens
-- higher: more member-like
-- source: SURP, Zhang & Wu 2024, arXiv 2407.21248
-- reads: tokens(run_id, doc_id, logprob, entropy)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: max_entropy DOUBLE = 2.0 in [0, inf]; nats; only predictions below are certain enough to be surprised
-- parameter: ratio DOUBLE = 0.2 in (0, 1]; share of the tokens that is surprising
-- parameter: parity BOOLEAN = false; k = floor(n * ratio) as in mia_llms_benchmark, and NULL where that is 0
-- note: no code of the authors was found; thresholds and order of the two conditions are those of
--   mia_llms_benchmark: the share is of the whole text, not of its certain tokens. Tokens equal to the k-th are all in,
--   where topk leaves open which it takes. NULL for an empty S, which that code calls -100 and so a sure non-member.
with gathered as (
  select
    doc_id,
    list(logprob) filter (logprob is not null) as logprobs,
    list(logprob) filter (logprob is not null and entropy < $max_entropy::double) as certain
  from tokens
  where run_id = $run_id
  group by doc_id
),
cut as (
  select
    doc_id,
    logprobs,
    certain,
    floor(len(logprobs) * $ratio::double) as whole,
    list_aggregate(logprobs, 'quantile_disc', $ratio::double) as t
  from gathered
),
low as (
  select
    doc_id,
    certain,
    case when whole < 0 then null when $parity then nullif(whole, 0) else greatest(whole, 1) end as k,
    t,
    list_filter(logprobs, lambda x: x < t) as below
  from cut
),
edged as (
  select doc_id, certain, case when k is not null then if(len(below) >= k, list_max(below), t) end as edge
  from low
)
select $run_id::varchar as run_id, doc_id, list_avg(list_filter(certain, lambda x: x <= edge)) as score
from edged;

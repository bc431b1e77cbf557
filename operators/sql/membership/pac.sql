-- score: pac
-- row: one document of the run
-- formula: mean over the copies of PD(text with words swapped) - PD(text), PD = mean of the largest ln p_t - mean of
--   the smallest, max(1, floor(n * high)) and max(1, floor(n * low)) of n scored tokens
-- higher: more member-like
-- source: Polarized Augment Calibration, Ye et al. 2024, arXiv 2405.11930
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- companion: swapped VARCHAR[]; transform perturb:kind=swap_words
-- parameter: low DOUBLE = 0.3 in (0, 1]; share of the tokens at the unlikely end
-- parameter: high DOUBLE = 0.05 in (0, 1]; share of the tokens at the likely end
-- note: the paper's is PD(text) less the mean and lower for members: the authors' code turns the sign before its ROC
--   curve, as is done here. They take five copies. k of both ends as in their code; mia_llms_benchmark takes the whole
--   text where the likely end is empty. Copies that a document lacks are left out of its mean. NULL where the text or
--   all of its copies have no scored token.
with gathered as (
  select doc_id, run_id, list(logprob) filter (logprob is not null) as logprobs
  from tokens
  where run_id = $run_id or list_contains($swapped::varchar[], run_id)
  group by doc_id, run_id
),
cut as (
  select
    doc_id,
    run_id = $run_id as is_text,
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
distances as (
  select
    doc_id,
    is_text,
    (coalesce(list_sum(above), 0) + case when len(above) >= k_top then 0 else (k_top - len(above)) * t_top end) / k_top
    - (coalesce(list_sum(below), 0) + case when len(below) >= k then 0 else (k - len(below)) * t end) / k as pd
  from ends
)
select
  $run_id::varchar as run_id,
  doc_id,
  nullif(avg(pd) filter (not is_text) - any_value(pd) filter (is_text), 'nan'::double) as score
from distances
group by doc_id
having bool_or(is_text);

-- score: fast_detectgpt
-- row: one document of the run
-- formula: sum_t (ln p_t - logprob_mean_t) / sqrt(sum_t logprob_std_t^2)
-- higher: more machine-like
-- source: Fast-DetectGPT, Bao et al. 2024, arXiv 2310.05130 (analytic form, one model for both parts)
-- reads: tokens(run_id, doc_id, logprob, logprob_mean, logprob_std)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [standard deviations of the whole text]
-- parameter: run_id VARCHAR; the run to score
-- rollup: case when logprob_sum + entropy_sum <> 0 or varentropy_sum <> 0
--   then (logprob_sum + entropy_sum) / sqrt(varentropy_sum) end
-- note: sums under one square root, not a mean of z (that is min_k_plus_plus at ratio 1). NULL where no token is
--   scored, or where no token leaves the model a choice and all were the certain one (0 / 0).
with sums as (
  select
    doc_id,
    sum(logprob::double - logprob_mean) as excess,
    sqrt(sum(logprob_std::double * logprob_std)) as deviation
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, case when excess <> 0 or deviation <> 0 then excess / deviation end as score
from sums;

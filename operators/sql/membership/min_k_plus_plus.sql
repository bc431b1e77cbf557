-- score: min_k_plus_plus
-- row: one document of the run
-- formula: mean of the k smallest z_t, z = (ln p - logprob_mean) / logprob_std, k = max(1, floor(n * ratio))
-- higher: more member-like
-- source: Min-K%++, Zhang et al. 2025, arXiv 2404.02936
-- reads: tokens(run_id, doc_id, logprob, logprob_mean, logprob_std)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [standard deviations]
-- parameter: run_id VARCHAR; the run to score
-- parameter: ratio DOUBLE = 0.2 in (0, 1]; share of the tokens that is averaged
-- parameter: parity BOOLEAN = false; as the authors' code: k = floor(n * ratio), NaN counted in n and sorted last
-- rollup: min_k_plus_plus_20 if $ratio = 0.2 and not $parity
-- note: where logprob_std is 0, z is NaN for the certain token (0 / 0) and -inf for any other. NaN is left out, of n
--   too; with parity it is in n, k = 0 gives NULL, and so does a k that reaches the NaN. -inf is a valid, lowest value.
--   The k smallest are summed without a sort, as in min_k, at some 18 bytes a token of the run. NULL where no z is
--   defined.
with standardized as (
  select doc_id, (logprob::double - logprob_mean) / logprob_std as z
  from tokens
  where run_id = $run_id
),
gathered as (
  select
    doc_id,
    count(z) filter (not isnan(z)) as n_defined,
    list(z) filter (z is not null and ($parity or not isnan(z))) as zs
  from standardized
  group by doc_id
),
cut as (
  select
    doc_id,
    n_defined,
    zs,
    floor(len(zs) * $ratio::double) as whole,
    list_aggregate(zs, 'quantile_disc', $ratio::double) as t
  from gathered
),
low as (
  select
    doc_id,
    case when not $parity and whole >= 0 then greatest(whole, 1) when whole between 1 and n_defined then whole end as k,
    t,
    list_filter(zs, lambda z: z < t) as below
  from cut
)
select
  $run_id::varchar as run_id,
  doc_id,
  (coalesce(list_sum(below), 0) + case when len(below) >= k then 0 else (k - len(below)) * t end) / k as score
from low;

-- score: min_k_plus_plus_ratios
-- row: one document of the run and one ratio
-- formula: mean of the k smallest z_t, z = (ln p - logprob_mean) / logprob_std, k = max(1, floor(n * ratio)) of n
--   defined z, for many ratios at once
-- higher: more member-like
-- source: Min-K%++, Zhang et al. 2025, arXiv 2404.02936
-- reads: tokens(run_id, doc_id, logprob, logprob_mean, logprob_std)
-- returns: run_id VARCHAR, doc_id BIGINT, ratio DOUBLE, score DOUBLE [standard deviations]
-- parameter: run_id VARCHAR; the run to score
-- parameter: ratios DOUBLE[] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6] in (0, 1]; shares of the tokens
-- note: min_k_plus_plus at every ratio, from one sort of each document's tokens; NaN and -inf as there. The ratio to
--   report is not chosen on the documents that it is judged by. NULL where no z is defined.
with standardized as (
  select doc_id, (logprob::double - logprob_mean) / logprob_std as z
  from tokens
  where run_id = $run_id
),
sorted as (
  select doc_id, list_sort(list(z) filter (z is not null and not isnan(z))) as zs
  from standardized
  group by doc_id
),
sums as (
  select
    doc_id,
    list_transform(
      $ratios::double[], lambda r: if(r between 0 and 1, greatest(floor(len(zs) * r), 1)::bigint, null)
    ) as ks,
    zs
  from sorted
),
means as (
  select doc_id, list_transform(ks, lambda k: list_sum(zs[1:k]) / k) as scores
  from sums
)
select $run_id::varchar as run_id, doc_id, unnest($ratios::double[]) as ratio, unnest(scores) as score
from means;

-- score: exchangeability
-- row: one run of a benchmark's orders, as `assay exchangeability` makes it
-- formula: d_s = mean over j of (ln p of shard s as it stands - ln p of it in drawn order j); t = mean(d) / std(d) *
--   sqrt(S) over S shards; p_permutation = (1 + #{j : sum over shards in order j >= sum as they stand}) / (M + 1)
-- higher: the order of the file is better predicted than other orders of its items
-- source: Oren et al. 2024, arXiv 2310.17623
-- reads: documents(run_id, domain, attributes, logprob_sum, n_scored)
-- returns: run_id VARCHAR, n_shards BIGINT, n_permutations BIGINT, n_tokens BIGINT, n_at_least BIGINT,
--   gain DOUBLE [nats per token], standard_error DOUBLE [nats per token], t DOUBLE, t_official DOUBLE, df BIGINT,
--   p_permutation DOUBLE [probability]
-- parameter: run_id VARCHAR; the run of the orders
-- note: p_permutation is exact where the items of the file are in no order of their own, and cannot fall below
--   1 / (n_permutations + 1). DuckDB has no distribution function of t: `assay exchangeability` gives the p-value, which
--   is scipy.stats.t.sf(t, df). t_official divides by the population's deviation, as the authors' code does. Both are
--   NULL where all shards differ by the same amount; everything is NULL where an order of a shard is missing.
with orders as (
  select
    try_cast(domain as bigint) as shard,
    try_cast(attributes['permutation'] as bigint) as permutation,
    logprob_sum as total,
    n_scored
  from documents
  where run_id = $run_id and attributes['permutation'] is not null and domain is not null
),
whole as (
  select
    count(distinct shard) as n_shards,
    count(distinct permutation) - 1 as n_permutations,
    sum(n_scored) filter (permutation = 0)::bigint as n_tokens,
    count(total) = n_shards * (n_permutations + 1) and bool_or(permutation = 0) and n_permutations > 0 as is_whole
  from orders
),
-- Differences first: equal sums must give exactly zero.
differences as (
  select o.shard, avg(canonical.total - o.total) as difference
  from orders o
  join orders canonical on canonical.shard = o.shard and canonical.permutation = 0
  where o.permutation > 0
  group by o.shard
),
-- Added up in one order, so that equal orders give equal sums.
sums as (
  select permutation, sum(total order by shard) as total
  from orders
  group by permutation
),
compared as (
  select count(*) filter (permutation > 0 and total >= (select total from sums where permutation = 0)) as n_at_least
  from sums
),
summed as (
  select
    avg(difference) as mean,
    case when min(difference) < max(difference) then stddev_samp(difference) / sqrt(count(*)) end as error
  from differences
)
select
  $run_id::varchar as run_id,
  n_shards,
  n_permutations,
  n_tokens,
  case when is_whole then n_at_least end as n_at_least,
  case when is_whole then mean * n_shards / n_tokens end as gain,
  case when is_whole then error * n_shards / n_tokens end as standard_error,
  case when is_whole then mean / error end as t,
  case when is_whole then mean / error * sqrt(n_shards / (n_shards - 1)) end as t_official,
  n_shards - 1 as df,
  case when is_whole then (1 + n_at_least) / (1 + n_permutations) end as p_permutation
from whole
cross join compared
cross join summed
where n_shards > 0;

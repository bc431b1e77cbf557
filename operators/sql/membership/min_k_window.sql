-- score: min_k_window
-- row: one document of the run
-- formula: mean of the k smallest window means of ln p_t, windows of `width` scored tokens every `stride`,
--   k = max(1, floor(n * ratio)) of n windows
-- higher: more member-like
-- source: MIMIR, Duan et al. 2024, arXiv 2402.07841; with width 1 Min-K% Prob, arXiv 2310.16789
-- reads: tokens(run_id, doc_id, position, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: width BIGINT = 5 in [1, inf); scored tokens of a window
-- parameter: stride BIGINT = 1 in [1, inf); scored tokens from one window's start to the next
-- parameter: ratio DOUBLE = 0.2 in (0, 1]; share of the windows that is averaged
-- parameter: parity BOOLEAN = false; as MIMIR: k = floor(n * ratio), and NULL where that is 0
-- note: MIMIR's own default is a width of 1, which is min_k, and it stores the negative. Windows do not reach over the
--   end. Sorts the tokens by position, which makes it slower than min_k. NULL where the text has no whole window.
with placed as (
  select
    doc_id,
    row_number() over ahead as place,
    count(*) over ahead as n_inside,
    avg(logprob) over ahead as mean_logprob
  from tokens
  where run_id = $run_id and logprob is not null
  window ahead as (
    partition by doc_id order by position rows between current row and ($width::bigint - 1) following
  )
),
gathered as (
  select
    doc_id,
    list(mean_logprob) filter (n_inside = $width::bigint and (place - 1) % $stride::bigint = 0) as means
  from placed
  group by doc_id
),
cut as (
  select
    doc_id,
    means,
    floor(len(means) * $ratio::double) as whole,
    list_aggregate(means, 'quantile_disc', $ratio::double) as t
  from gathered
),
low as (
  select
    doc_id,
    case when whole < 0 then null when $parity then nullif(whole, 0) else greatest(whole, 1) end as k,
    t,
    list_filter(means, lambda x: x < t) as below
  from cut
)
select
  $run_id::varchar as run_id,
  d.doc_id,
  (coalesce(list_sum(below), 0) + case when len(below) >= k then 0 else (k - len(below)) * t end) / k as score
from (select distinct doc_id from tokens where run_id = $run_id) d
left join low l on l.doc_id = d.doc_id;

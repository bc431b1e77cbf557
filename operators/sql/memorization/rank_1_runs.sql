-- score: rank_1_runs
-- row: one longest stretch of tokens in a row that are each the greedy choice
-- formula: maximal runs of greedy tokens, at least `least` of them
-- higher: more memorised
-- source: a screen for discoverable extraction, Carlini et al. 2023, arXiv 2202.07646
-- reads: tokens(run_id, doc_id, position, token_id, byte_start, n_bytes, logprob, rank, top1_id, topk_id, in_prompt)
-- optional: extremes, topk
-- returns: run_id VARCHAR, doc_id BIGINT, position INTEGER, n_tokens INTEGER [tokens], byte_start BIGINT [bytes],
--   n_bytes BIGINT [bytes], logprob_sum DOUBLE [nats]
-- parameter: run_id VARCHAR; the run to search
-- parameter: least BIGINT = 50 in [1, inf); tokens of the shortest stretch
-- parameter: completion BOOLEAN = false; leave out tokens in the prompt
-- note: stretches as in `longest_run`. With the text of each: the view `memorized_spans`, once `assay memorization` has
--   kept them.
with marked as (
  select
    doc_id,
    position,
    n_bytes,
    coalesce(top1_id = token_id, topk_id[1] = token_id, rank = 1, false)
      and not ($completion and coalesce(in_prompt, false)) as is_hit
  from tokens
  where run_id = $run_id
),
ends as (
  select
    doc_id,
    coalesce(max(position) filter (n_bytes > 0), max(position)) + 1 as stop,
    list_sort(list_concat(
      [min(position) - 1, coalesce(max(position) filter (n_bytes > 0), max(position)) + 1],
      coalesce(list(position) filter (not is_hit), [])
    )) as breaks
  from marked
  group by doc_id
),
of_text as (
  select doc_id, breaks[1:list_position(breaks, stop)] as breaks
  from ends
),
pairs as (
  select
    doc_id,
    unnest(list_filter(list_zip(breaks[2:], breaks, true), lambda pair: pair[1] - pair[2] > $least::bigint)) as pair
  from of_text
),
stretches as (
  select doc_id, pair[2] + 1 as start, pair[1] - 1 as last
  from pairs
),
inside as (
  select doc_id, position, byte_start, n_bytes, logprob
  from tokens
  where run_id = $run_id and doc_id in (select doc_id from stretches)
),
summed as (
  select
    s.doc_id,
    s.start,
    count(*)::int as size,
    min(t.byte_start)::bigint as byte_from,
    (max(t.byte_start + t.n_bytes) - min(t.byte_start))::bigint as length,
    sum(t.logprob::double) as lp
  from inside t
  asof join stretches s on t.doc_id = s.doc_id and t.position >= s.start
  where t.position <= s.last
  group by s.doc_id, s.start
)
select
  $run_id::varchar as run_id,
  doc_id,
  start as position,
  size as n_tokens,
  byte_from as byte_start,
  length as n_bytes,
  lp as logprob_sum
from summed
order by n_tokens desc, doc_id, start;

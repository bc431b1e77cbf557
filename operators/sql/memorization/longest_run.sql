-- score: longest_run
-- row: one document of the run
-- formula: length of the longest stretch of tokens in a row that are each the greedy choice
-- higher: more memorised
-- source: a screen for discoverable extraction, Carlini et al. 2023, arXiv 2202.07646
-- reads: tokens(run_id, doc_id, position, token_id, n_bytes, rank, top1_id, topk_id, in_prompt)
-- optional: extremes, topk
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [tokens]
-- parameter: run_id VARCHAR; the run to score
-- parameter: completion BOOLEAN = false; leave out tokens in the prompt
-- note: greedy: the most likely token by `top1_id`, else by `topk_id`, else rank 1, which counts both tokens of an exact
--   tie. Each token is predicted from the document before it. Tokens added behind the text do not
--   count. A token without a prediction ends a stretch, and so does one that is left out. Every common word is a stretch
--   of one: compare documents of like lengths. NULL where the document has no prediction.
with marked as (
  select
    doc_id,
    position,
    n_bytes,
    rank,
    coalesce(top1_id = token_id, topk_id[1] = token_id, rank = 1, false)
      and not ($completion and coalesce(in_prompt, false)) as is_hit
  from tokens
  where run_id = $run_id
),
ends as (
  select
    doc_id,
    count(rank) filter (n_bytes > 0) as n_scored,
    coalesce(max(position) filter (n_bytes > 0), max(position)) + 1 as stop,
    list_sort(list_concat(
      [min(position) - 1, coalesce(max(position) filter (n_bytes > 0), max(position)) + 1],
      coalesce(list(position) filter (not is_hit), [])
    )) as breaks
  from marked
  group by doc_id
),
of_text as (
  select doc_id, n_scored, breaks[1:list_position(breaks, stop)] as breaks
  from ends
)
select
  $run_id::varchar as run_id,
  doc_id,
  case when n_scored > 0 then
    list_max(list_transform(list_zip(breaks[2:], breaks, true), lambda pair: pair[1] - pair[2])) - 1
  end::double as score
from of_text;

-- score: longest_run_share
-- row: one document of the run
-- formula: longest_run / scored tokens
-- higher: more memorised
-- source: a screen for discoverable extraction, Carlini et al. 2023, arXiv 2202.07646
-- reads: tokens(run_id, doc_id, position, token_id, n_bytes, rank, top1_id, topk_id, in_prompt)
-- optional: extremes, topk
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [share]
-- parameter: run_id VARCHAR; the run to score
-- parameter: completion BOOLEAN = false; leave out tokens in the prompt, of the scored ones too
-- note: as longest_run. Short texts have large shares by chance.
with marked as (
  select
    doc_id,
    position,
    n_bytes,
    rank is not null and not ($completion and coalesce(in_prompt, false)) as is_counted,
    coalesce(top1_id = token_id, topk_id[1] = token_id, rank = 1, false) as is_greedy
  from tokens
  where run_id = $run_id
),
ends as (
  select
    doc_id,
    count(*) filter (is_counted) as n_counted,
    max(position) as last,
    coalesce(max(position) filter (n_bytes > 0), max(position)) + 1 as stop,
    list_sort(list_concat(
      [min(position) - 1, coalesce(max(position) filter (n_bytes > 0), max(position)) + 1],
      coalesce(list(position) filter (not (is_greedy and is_counted)), [])
    )) as breaks
  from marked
  group by doc_id
),
of_text as (
  select doc_id, n_counted - (last + 1 - stop) as n_counted, breaks[1:list_position(breaks, stop)] as breaks
  from ends
)
select
  $run_id::varchar as run_id,
  doc_id,
  case when n_counted > 0 then
    list_max(list_transform(list_zip(breaks[2:], breaks, true), lambda pair: pair[1] - pair[2])) - 1
  end / n_counted::double as score
from of_text;

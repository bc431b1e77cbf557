-- score: k_extractable
-- row: one document of the run
-- formula: how many tokens greedy decoding writes as in the text, started with the first `first_tokens` of it: those
--   before the first one that is not the greedy choice
-- higher: more memorised
-- source: extractable with k tokens of context, Carlini et al. 2023, arXiv 2202.07646
-- reads: tokens(run_id, doc_id, position, token_id, n_bytes, rank, top1_id, topk_id); documents(run_id, doc_id);
--   runs(run_id, bos_prepended, transform)
-- optional: extremes, topk
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [tokens]
-- parameter: run_id VARCHAR; the run to score
-- parameter: first_tokens BIGINT = 50 in [1, inf); tokens of the text that are given; the paper's k
-- note: exact: until its first miss, greedy decoding sees the text itself. The text is extractable with k tokens of
--   context where the score is all that it has left. Not the memorisation score of Biderman et al. 2023 (arXiv
--   2304.11158), which also counts matches behind the first miss: only generating gives that. Tokens added around the text
--   do not count. NULL where no token is left. Greedy as in `extraction`; texts longer than the model's context are
--   continued from the window they lie in.
with origin as (
  select coalesce(bool_or(bos_prepended and not starts_with(coalesce(transform, ''), 'windows')), false)::int as before
  from runs
  where run_id = $run_id
),
ends as (
  select
    doc_id,
    any_value(before) as before,
    coalesce(max(position) filter (n_bytes > 0), max(position)) as last,
    min(position) filter (
      position >= before + $first_tokens::bigint
      and not coalesce(top1_id = token_id, topk_id[1] = token_id, rank = 1, false)
    ) as first_miss
  from tokens, origin
  where run_id = $run_id
  group by doc_id
)
select
  $run_id::varchar as run_id,
  d.doc_id,
  case when e.last >= e.before + $first_tokens::bigint then
    least(coalesce(e.first_miss, e.last + 1), e.last + 1) - e.before - $first_tokens::bigint
  end::double as score
from documents d
left join ends e on e.doc_id = d.doc_id
where d.run_id = $run_id;

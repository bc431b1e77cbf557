-- score: extractable_share
-- row: one document of the run
-- formula: windows whose suffix is all greedy choices / complete windows
-- higher: more memorised
-- source: discoverable extraction, Carlini et al. 2023, arXiv 2202.07646
-- reads: tokens(run_id, doc_id, position, token_id, n_bytes, logprob, rank, top1_id, topk_id,
--   in_prompt); documents(run_id, doc_id); runs(run_id, bos_prepended, transform)
-- optional: extremes, topk
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [share]
-- parameter: run_id VARCHAR; the run to score
-- parameter: prefix BIGINT = 50 in [1, inf); tokens of the text before the first suffix
-- parameter: suffix BIGINT = 50 in [1, inf); tokens of a suffix
-- parameter: stride BIGINT = 50 in [1, inf); tokens from one suffix to the next
-- parameter: completion BOOLEAN = false; only suffixes that lie wholly behind the prompt
-- note: windows as in `extraction`, each suffix predicted from all of the document before it, which is more than its
--   prefix; without tokens added around the text. NULL where the text has no complete window.
with origin as (
  select coalesce(bool_or(bos_prepended and not starts_with(coalesce(transform, ''), 'windows')), false)::int as before
  from runs
  where run_id = $run_id
),
blocks as (
  select
    doc_id,
    (position - before - $prefix::bigint) // gcd($suffix::bigint, $stride::bigint) as block,
    count(*) as n,
    count(*) filter (coalesce(top1_id = token_id, topk_id[1] = token_id, rank = 1)) as n_hits,
    min(position) as start,
    max(position) filter (n_bytes > 0) as last
  from tokens, origin
  where run_id = $run_id
    and position >= before + $prefix::bigint
    and logprob is not null
    and not ($completion and coalesce(in_prompt, false))
  group by all
),
suffixes as (
  select
    doc_id,
    block,
    start,
    sum(n) over ahead as n,
    sum(n_hits) over ahead as n_hits,
    max(block) over ahead - block as beyond,
    max(last) over (partition by doc_id) as last
  from blocks
  window ahead as (
    partition by doc_id order by block
    rows between current row and ($suffix::bigint // gcd($suffix::bigint, $stride::bigint) - 1) following
  )
),
shares as (
  select doc_id, avg((n_hits = n)::int) as share
  from suffixes
  where n = $suffix::bigint
    and start + $suffix::bigint - 1 <= last
    and beyond = $suffix::bigint // gcd($suffix::bigint, $stride::bigint) - 1
    and block % greatest(1, $stride::bigint // gcd($suffix::bigint, $stride::bigint)) = 0
  group by doc_id
)
select $run_id::varchar as run_id, d.doc_id, s.share as score
from documents d
left join shares s on s.doc_id = d.doc_id
where d.run_id = $run_id;

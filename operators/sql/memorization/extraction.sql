-- score: extraction
-- row: one window: `suffix` tokens with a prediction behind at least `prefix` tokens of the text
-- formula: extractable = every token of the suffix is the greedy choice; ln p_z = sum_t ln q_t, q the distribution that
--   is sampled from; n_P = least n with 1 - (1 - p_z)^n >= P / 100 = ceil(ln(1 - P / 100) / ln(1 - p_z))
-- higher: more memorised
-- source: discoverable extraction, Carlini et al. 2023, arXiv 2202.07646; (n, p)-discoverable extraction, Hayes et al.
--   2024, arXiv 2410.19482
-- reads: tokens(run_id, doc_id, position, token_id, byte_start, n_bytes, logprob, rank, top1_id, topk_id, topk_logprob,
--   in_prompt); runs(run_id, bos_prepended, transform)
-- optional: extremes, topk
-- returns: run_id VARCHAR, doc_id BIGINT, position INTEGER, byte_start BIGINT [bytes], n_bytes BIGINT [bytes],
--   n_greedy BIGINT [tokens], is_extractable BOOLEAN, logprob_sum DOUBLE [nats], logprob_sampled DOUBLE [nats],
--   n_10 DOUBLE [samples], n_50 DOUBLE [samples], n_90 DOUBLE [samples]
-- parameter: run_id VARCHAR; the run to search, the documents' own or one of strict windows
-- parameter: prefix BIGINT = 50 in [1, inf); tokens of the text before the first suffix
-- parameter: suffix BIGINT = 50 in [1, inf); tokens of a suffix
-- parameter: stride BIGINT = 50 in [1, inf); tokens from one suffix to the next
-- parameter: temperature DOUBLE = 1.0 in (0, inf); of the sampling; other than 1 needs a top_k
-- parameter: top_k BIGINT = 0 in [0, inf); sampling from so many tokens, which the run's lists must hold; 0: from all
-- parameter: completion BOOLEAN = false; only suffixes that lie wholly behind the prompt
-- note: greedy: the most likely token by `top1_id`, else by `topk_id`, else rank 1, which counts both tokens of an exact
--   tie. In the documents' own run a suffix is predicted from all of the document before it: more than the prefix that
--   the definition gives. Exactly the prefix: a run `--transform windows`, asked with its own suffix as stride. Tokens
--   added around the text are in no window (of those before it, one). Incomplete windows are left out. Of tokens tied at
--   the cut of a top_k those count that the lists hold first. Compact precision moves ln p_z by at most
--   suffix / 1024 (0.05 at 50), under a top_k by twice that / temperature. A top_k that falls short of the run's lists,
--   and a temperature without top_k, give NULL; p_z = 0 and numbers above 1e308 give inf.
with origin as (
  select coalesce(bool_or(bos_prepended and not starts_with(coalesce(transform, ''), 'windows')), false)::int as before
  from runs
  where run_id = $run_id
),
steps as (
  select
    doc_id,
    position,
    (position - before - $prefix::bigint) // gcd($suffix::bigint, $stride::bigint) as block,
    coalesce(top1_id = token_id, topk_id[1] = token_id, rank = 1) as is_greedy,
    logprob::double as lp,
    case
      when $top_k = 0 then case when $temperature = 1 then logprob::double end
      when len(topk_id) < $top_k then null
      when list_contains(topk_id[1:$top_k], token_id) then
        (topk_logprob[list_position(topk_id, token_id)] - topk_logprob[1]::double) / $temperature
        - ln(list_sum(list_transform(topk_logprob[1:$top_k], lambda x: exp((x - topk_logprob[1]::double) / $temperature))))
      when topk_id is not null then '-inf'::double
    end as lq,
    byte_start,
    n_bytes,
    byte_start + n_bytes as byte_end
  from tokens, origin
  where run_id = $run_id
    and position >= before + $prefix::bigint
    and logprob is not null
    and not ($completion and coalesce(in_prompt, false))
),
blocks as (
  select
    doc_id,
    block,
    min(position) as start,
    count(*) as n,
    count(*) filter (is_greedy) as n_hits,
    sum(lp) as lp,
    case when count(lq) = count(*) then sum(lq) end as lq,
    min(byte_start) as byte_from,
    max(byte_end) as byte_end,
    max(position) filter (n_bytes > 0) as last
  from steps
  group by doc_id, block
),
suffixes as (
  select
    doc_id,
    block,
    start,
    sum(n) over ahead as n,
    sum(n_hits) over ahead as n_hits,
    sum(lp) over ahead as lp,
    case when count(lq) over ahead = count(*) over ahead then sum(lq) over ahead end as lq,
    byte_from,
    max(byte_end) over ahead as byte_end,
    max(block) over ahead - block as beyond,
    max(last) over (partition by doc_id) as last
  from blocks
  window ahead as (
    partition by doc_id order by block
    rows between current row and ($suffix::bigint // gcd($suffix::bigint, $stride::bigint) - 1) following
  )
),
whole as (
  select *, case when exp(lq) < 1e-8 then -exp(lq) - exp(lq) * exp(lq) / 2 else ln(1 - exp(lq)) end as ln_miss
  from suffixes
  where n = $suffix::bigint
    and start + $suffix::bigint - 1 <= last
    and beyond = $suffix::bigint // gcd($suffix::bigint, $stride::bigint) - 1
    and block % greatest(1, $stride::bigint // gcd($suffix::bigint, $stride::bigint)) = 0
)
select
  $run_id::varchar as run_id,
  doc_id,
  start as position,
  byte_from::bigint as byte_start,
  (byte_end - byte_from)::bigint as n_bytes,
  n_hits::bigint as n_greedy,
  n_hits = n as is_extractable,
  lp as logprob_sum,
  lq as logprob_sampled,
  case when lq is not null then greatest(1, ceil(ln(0.9::double) / ln_miss)) end as n_10,
  case when lq is not null then greatest(1, ceil(ln(0.5::double) / ln_miss)) end as n_50,
  case when lq is not null then greatest(1, ceil(ln(1 - 0.9::double) / ln_miss)) end as n_90
from whole;

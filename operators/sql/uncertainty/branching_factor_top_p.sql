-- score: branching_factor_top_p
-- row: one document of the run
-- formula: branching_factor of predictions cut to their nucleus and renormalised: the most likely tokens, as few as
--   have the mass top_p together
-- higher: more uncertain: more plausible next steps
-- source: Yang and Holtzman 2025, arXiv 2506.17871
-- reads: tokens(run_id, doc_id, token_id, in_prompt, logprob, topk_id, topk_logprob);
--   documents(run_id, doc_id)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [equally likely tokens]
-- parameter: run_id VARCHAR; the run to score
-- parameter: top_p DOUBLE = 0.9 in (0, 1]; mass of the nucleus, as in the authors' code
-- parameter: horizon INTEGER = 50 in [0, inf); scored tokens up to which entropies are averaged, as in their code
-- note: exact, or NULL: a list of the k most likely tokens that does not reach top_p at any scored token of the
--   completion leaves the document undefined, so keep enough of them. A longer completion with a token outside its
--   nucleus is undefined, too: it was not sampled so. For the rest see branching_factor. NULL also where no token of
--   the completion is scored, and without the columns `topk`.
with lists as (
  select doc_id, token_id, logprob, topk_id, list_transform(topk_logprob, lambda x: exp(x::double)) as masses
  from tokens
  where run_id = $run_id and in_prompt is not true and logprob is not null
),
nuclei as (
  select
    doc_id,
    logprob,
    list_position(topk_id, token_id) as place,
    list_sum(masses) >= $top_p::double as is_whole,
    list_filter(masses, lambda x, i: coalesce(list_sum(masses[1:i - 1]), 0) < $top_p::double) as kept
  from lists
),
totals as (
  select doc_id, logprob, place, is_whole, kept, list_sum(kept) as total
  from nuclei
),
steps as (
  select
    doc_id,
    is_whole,
    -list_sum(list_transform(kept, lambda x: x / total * ln(x / total))) as h,
    case when place <= len(kept) then ln(total) - logprob end as nll
  from totals
),
means as (
  select
    doc_id,
    bool_and(coalesce(is_whole, false)) as is_exact,
    count(*) as n_scored,
    avg(h) as mean_entropy,
    case when count(nll) = count(*) then avg(nll) end as mean_nll
  from steps
  group by doc_id
)
select
  $run_id::varchar as run_id,
  d.doc_id,
  case when m.is_exact then exp(case when m.n_scored <= $horizon then m.mean_entropy else m.mean_nll end) end as score
from documents d
left join means m on m.doc_id = d.doc_id
where d.run_id = $run_id;

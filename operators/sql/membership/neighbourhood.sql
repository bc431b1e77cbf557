-- score: neighbourhood
-- row: one document of the run
-- formula: LL(text) - mean over the copies of LL(perturbed copy), LL = mean of ln p_t over the scored tokens of each
-- higher: more member-like
-- source: Mattern et al. 2023, arXiv 2305.18462
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- companion: perturbed VARCHAR[]; transform perturb; such as perturb:kind=substitute_words
-- parameter: parity BOOLEAN = false; as MIMIR's evaluation: against the least likely copy, not the mean of them
-- note: the paper's neighbours replace words by those of a masked language model; such texts come in as runs of
--   `--transform external`. MIMIR keeps a list of differences and takes its minimum, so with one copy the two agree.
--   Copies that a document lacks are left out of its mean. NULL where the text or all of its copies have no scored
--   token.
with original as (
  select doc_id, avg(logprob) as ll
  from tokens
  where run_id = $run_id
  group by doc_id
),
copies as (
  select doc_id, run_id, avg(logprob) as ll
  from tokens
  where list_contains($perturbed::varchar[], run_id)
  group by doc_id, run_id
),
neighbours as (
  select doc_id, avg(ll) as mean_ll, min(ll) as least_ll
  from copies
  group by doc_id
)
select
  $run_id::varchar as run_id,
  o.doc_id,
  nullif(o.ll - case when $parity then n.least_ll else n.mean_ll end, 'nan'::double) as score
from original o
left join neighbours n on n.doc_id = o.doc_id;

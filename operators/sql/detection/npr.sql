-- score: npr
-- row: one document of the run
-- formula: (mean over the perturbed texts of their mean ln rank) / (mean ln rank of the text)
-- higher: more machine-like
-- source: DetectLLM, Su et al. 2023, arXiv 2306.05540
-- reads: tokens(run_id, doc_id, rank)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [ratio]
-- parameter: run_id VARCHAR; the run to score
-- companion: perturbed VARCHAR[]; transform perturb; such as perturb:kind=substitute_words
-- note: the authors fill masked spans with T5: make those texts elsewhere and score them as perturbed texts of their
--   own (transform external); the perturbations offered here need no model, and move the ranks in other ways. Means
--   over the copies that have the document. +inf, the most machine-like, where every token of the text has rank 1 and
--   the perturbed texts have others; NULL where theirs have rank 1 too, or where either side has no scored token.
with of_texts as (
  select run_id, doc_id, avg(ln(rank)) as mean_log_rank
  from tokens
  where run_id = $run_id or list_contains($perturbed::varchar[], run_id)
  group by run_id, doc_id
),
sides as (
  select
    doc_id,
    avg(mean_log_rank) filter (run_id <> $run_id) as changed,
    max(mean_log_rank) filter (run_id = $run_id) as original
  from of_texts
  group by doc_id
  having bool_or(run_id = $run_id)
)
select
  $run_id::varchar as run_id,
  doc_id,
  case when changed > 0 or original > 0 then changed / original end as score
from sides;

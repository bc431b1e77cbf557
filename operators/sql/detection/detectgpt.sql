-- score: detectgpt
-- row: one document of the run
-- formula: (LL - mean of LL_i) / (standard deviation of LL_i), LL = mean ln p_t of the text, LL_i of its i-th perturbed
--   text; population form, over the perturbed texts
-- higher: more machine-like
-- source: DetectGPT, Mitchell et al. 2023, arXiv 2301.11305
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [standard deviations]
-- parameter: run_id VARCHAR; the run to score
-- companion: perturbed VARCHAR[]; transform perturb; such as perturb:kind=substitute_words
-- parameter: normalised BOOLEAN = true; divide by the deviation (criterion z of the authors' code); otherwise the plain
--   difference (criterion d), in nats per token
-- note: the deviation is 1 where there is one perturbed text or all are as likely, as in the code of the authors and of
--   Fast-DetectGPT. A spread below 1e-9 nats counts as none: the order of a sum makes that much. The authors fill
--   masked spans with T5, some 10 to 100 times a text: make those texts elsewhere and score them as perturbed texts of
--   their own (transform external). Over the copies that have the document; NULL where none has, or a side is not
--   scored.
with of_texts as (
  select run_id, doc_id, avg(logprob) as mean_logprob
  from tokens
  where run_id = $run_id or list_contains($perturbed::varchar[], run_id)
  group by run_id, doc_id
),
sides as (
  select
    doc_id,
    max(mean_logprob) filter (run_id = $run_id) as original,
    avg(mean_logprob) filter (run_id <> $run_id) as changed,
    stddev_pop(mean_logprob) filter (run_id <> $run_id) as spread
  from of_texts
  group by doc_id
  having bool_or(run_id = $run_id)
)
select
  $run_id::varchar as run_id,
  doc_id,
  nullif((original - changed) / case when $normalised and spread >= 1e-9 then spread else 1 end, 'nan'::double) as score
from sides;

-- score: reference_ratio
-- row: one document of the run
-- formula: LL of the reference model / LL of the run, LL = mean of ln p_t over the scored tokens of each
-- higher: more member-like
-- source: code of DC-PDD, Zhang et al. 2024, arXiv 2409.14781; the calibration of Carlini et al. 2021, arXiv 2012.07805
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [ratio]
-- parameter: run_id VARCHAR; the run to score
-- companion: reference VARCHAR; reference
-- note: the fraction of the losses turned over, for theirs is lower for members. Not the order of the difference
--   (reference), which is the form of the papers. Of two models with one tokenizer, as there. NULL where either has no
--   scored token, or where the mean of the run is 0.
with target as (
  select doc_id, avg(logprob) as ll
  from tokens
  where run_id = $run_id
  group by doc_id
),
other as (
  select doc_id, avg(logprob) as ll
  from tokens
  where run_id = $reference
  group by doc_id
)
select $run_id::varchar as run_id, t.doc_id, nullif(o.ll / nullif(t.ll, 0), 'nan'::double) as score
from target t
left join other o on o.doc_id = t.doc_id;

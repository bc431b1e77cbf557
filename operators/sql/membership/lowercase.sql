-- score: lowercase
-- row: one document of the run
-- formula: LL(text in lower case) / LL(text), LL = mean of ln p_t over the scored tokens of each
-- higher: more member-like
-- source: Carlini et al. 2021, arXiv 2012.07805
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [ratio]
-- parameter: run_id VARCHAR; the run to score
-- companion: lowercased VARCHAR; transform lowercase
-- note: both means are negative, so a value above 1 says that lower-casing made the text less likely. The tokens of the
--   two differ in number, so each is averaged first. Stored by others with the sign or the fraction turned over
--   (detect-pretrain-code, the DC-PDD code): the same order. NULL where either has no scored token, or where the mean
--   of the text is 0 (every token certain).
with original as (
  select doc_id, avg(logprob) as ll
  from tokens
  where run_id = $run_id
  group by doc_id
),
changed as (
  select doc_id, avg(logprob) as ll
  from tokens
  where run_id = $lowercased
  group by doc_id
)
select $run_id::varchar as run_id, o.doc_id, nullif(c.ll / nullif(o.ll, 0), 'nan'::double) as score
from original o
left join changed c on c.doc_id = o.doc_id;

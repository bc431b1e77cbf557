-- score: lowercase
-- row: one document of the run
-- formula: LL(text in lower case) / LL(text), LL = mean of ln p_t over the scored tokens of each
-- higher: more member-like
-- source: Carlini et al. 2021, arXiv 2012.07805
-- reads: tokens(run_id, doc_id, logprob); documents(run_id, doc_id)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [ratio]
-- parameter: run_id VARCHAR; the run to score
-- companion: lowercased VARCHAR; transform lowercase
-- note: both means are negative, so a value above 1 says that lower-casing made the text less likely. The tokens of the
--   two differ in number, so each is averaged first. NULL where either has no scored token, or the mean is 0.
with means as (
  select
    doc_id,
    avg(logprob) filter (run_id = $run_id) as original,
    avg(logprob) filter (run_id = $lowercased) as changed
  from tokens
  where run_id = $run_id or run_id = $lowercased
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, changed / nullif(original, 0) as score
from means
where doc_id in (select doc_id from documents where run_id = $run_id);

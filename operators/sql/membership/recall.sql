-- score: recall
-- row: one document of the run
-- formula: LL(text | prefix of non-members) / LL(text), LL = mean of ln p_t over the scored tokens of each
-- higher: more member-like
-- source: ReCaLL, Xie et al. 2024, arXiv 2406.15968
-- reads: tokens(run_id, doc_id, position, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [ratio]
-- parameter: run_id VARCHAR; the run to score
-- companion: prefixed VARCHAR; transform prefix:label=0; such as prefix:label=0,shots=7
-- parameter: aligned BOOLEAN = false; both means over the tokens after the first, which only the prefix lets score
-- note: by default as the authors' code: behind the prefix all N tokens have a prediction, without it N - 1, and a BOS
--   of the document then stands in the middle of the sequence. MIMIR's is this with the sign turned. NULL for the
--   documents that the prefix is made of, where either has no scored token, and where the mean of the text is 0.
with original as (
  select doc_id, avg(logprob) filter (not $aligned or position >= 1) as ll
  from tokens
  where run_id = $run_id
  group by doc_id
),
conditional as (
  select doc_id, avg(logprob) filter (not $aligned or position >= 1) as ll
  from tokens
  where run_id = $prefixed
  group by doc_id
)
select $run_id::varchar as run_id, o.doc_id, nullif(c.ll / nullif(o.ll, 0), 'nan'::double) as score
from original o
left join conditional c on c.doc_id = o.doc_id;

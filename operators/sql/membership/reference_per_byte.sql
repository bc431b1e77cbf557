-- score: reference_per_byte
-- row: one document of the run
-- formula: (sum_t ln p_t of the run - sum_t ln p_t of the reference model) / bytes of the text
-- higher: more member-like
-- source: ours, for models of two tokenizers; the difference of Carlini et al. 2021, arXiv 2012.07805
-- reads: tokens(run_id, doc_id, logprob); documents(run_id, doc_id, n_bytes)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per byte]
-- parameter: run_id VARCHAR; the run to score
-- companion: reference VARCHAR; reference
-- note: whole texts are compared, whatever tokens they are cut into. A run without a BOS leaves its first token
--   unscored, and the other tokenizer's first token may be longer: with both runs under `--bos always` every byte
--   counts in both. NULL where either has no scored token.
with target as (
  select doc_id, sum(logprob) as total
  from tokens
  where run_id = $run_id
  group by doc_id
),
other as (
  select doc_id, sum(logprob) as total
  from tokens
  where run_id = $reference
  group by doc_id
)
select
  $run_id::varchar as run_id,
  t.doc_id,
  nullif((t.total - o.total) / nullif(d.n_bytes, 0), 'nan'::double) as score
from target t
left join other o on o.doc_id = t.doc_id
left join documents d on d.run_id = $run_id and d.doc_id = t.doc_id;

-- score: zlib
-- row: one document of the run
-- formula: (1/n) sum_t ln p_t / zlib_bytes
-- higher: more member-like
-- source: Carlini et al. 2021, arXiv 2012.07805
-- reads: tokens(run_id, doc_id, logprob); documents(run_id, doc_id, zlib_bytes)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token and byte]
-- parameter: run_id VARCHAR; the run to score
-- rollup: logprob_sum / n_scored / zlib_bytes
-- note: zlib_bytes is of the very text whose tokens were scored, header and checksum included. NULL where no token is
--   scored.
with likelihood as (
  select doc_id, avg(logprob) as mean_logprob
  from tokens
  where run_id = $run_id
  group by doc_id
)
select d.run_id, l.doc_id, l.mean_logprob / d.zlib_bytes as score
from likelihood l
join documents d on d.doc_id = l.doc_id
where d.run_id = $run_id;

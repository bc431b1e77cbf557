-- score: reference
-- row: one document of the run
-- formula: LL of the run - LL of the reference model, LL = mean of ln p_t over the scored tokens of each
-- higher: more member-like
-- source: Carlini et al. 2021, arXiv 2012.07805; as a difference in Duan et al. 2024, arXiv 2402.07841
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- companion: reference VARCHAR; reference
-- note: of two models with one tokenizer. With two the means are over other tokens, some longer than others, and
--   their difference also holds the ratio of the token counts: take reference_per_byte. The difference does not rank
--   as the ratio does (reference_ratio). Some codes feed the target's ids to the reference model, which means something
--   only where the vocabularies agree. NULL where either has no scored token.
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
select $run_id::varchar as run_id, t.doc_id, nullif(t.ll - o.ll, 'nan'::double) as score
from target t
left join other o on o.doc_id = t.doc_id;

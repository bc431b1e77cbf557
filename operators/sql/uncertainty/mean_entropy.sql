-- score: mean_entropy
-- row: one document of the run
-- formula: (1/n) sum_t entropy_t over the n predictions of the completion
-- higher: more uncertain
-- source: Fomicheva et al. 2020, arXiv 2005.10608; mean token entropy in LM-Polygraph, Fadeeva et al. 2023,
--   arXiv 2311.07383
-- reads: tokens(run_id, doc_id, in_prompt, entropy)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- note: the completion: the tokens after the prompt where the run has prompts, all tokens elsewhere. The authors' code
--   takes distributions after its logits processors, which forbid the end of the text at first; these are the model's
--   own. NULL where no token of the completion is scored.
with means as (
  select doc_id, avg(entropy) filter (in_prompt is not true) as mean_entropy
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, mean_entropy as score
from means;

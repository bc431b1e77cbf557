-- score: perplexity
-- row: one document of the run
-- formula: exp(-(1/n) sum_t ln p_t) over the n scored tokens
-- higher: worse fit
-- source: Jelinek et al. 1977, doi 10.1121/1.2016299
-- reads: tokens(run_id, doc_id, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [equally likely tokens]
-- parameter: run_id VARCHAR; the run to score
-- note: depends on the tokenizer: compare models of different vocabularies by bits_per_byte. NULL where no token is
--   scored.
select run_id, doc_id, exp(-avg(logprob)) as score
from tokens
where run_id = $run_id
group by run_id, doc_id;

-- score: detection_scores
-- row: one document of the run
-- formula: scores of machine-written text that the core columns of one run give, as in the file of each name, from one
--   scan
-- higher: what the score of the column's name says
-- source: those of the columns' own files, arXiv 1906.04043, arXiv 2301.11305, arXiv 2306.05540, arXiv 2310.05130
-- reads: tokens(run_id, doc_id, logprob, entropy, logprob_std, rank)
-- returns: run_id VARCHAR, doc_id BIGINT, log_likelihood DOUBLE [nats per token], rank DOUBLE [ranks per token],
--   log_rank DOUBLE [nats of rank per token], lrr DOUBLE [ratio], gltr DOUBLE [share of the tokens],
--   entropy DOUBLE [nats per token], fast_detectgpt DOUBLE [standard deviations of the whole text],
--   surprisal_gap DOUBLE [nats per token], typicality DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: top INTEGER = 10 in [1, inf); of gltr, the highest rank that counts
-- note: what is not selected is not computed, and its column is not read.
with sums as (
  select
    doc_id,
    avg(logprob) as mean_logprob,
    avg(rank) as mean_rank,
    avg(ln(rank)) as mean_log_rank,
    avg((rank <= $top)::integer) as share,
    avg(entropy) as mean_entropy,
    sum(logprob::double + entropy) as excess,
    sqrt(sum(logprob_std::double * logprob_std)) as deviation,
    avg(logprob::double + entropy) as mean_gap,
    avg(abs(logprob::double + entropy)) as mean_distance
  from tokens
  where run_id = $run_id
  group by doc_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  mean_logprob as log_likelihood,
  -mean_rank as rank,
  -mean_log_rank as log_rank,
  case when mean_log_rank = 0 then 'infinity'::double else -mean_logprob / mean_log_rank end as lrr,
  share as gltr,
  mean_entropy as entropy,
  case when excess <> 0 or deviation <> 0 then excess / deviation end as fast_detectgpt,
  mean_gap as surprisal_gap,
  -mean_distance as typicality
from sums;

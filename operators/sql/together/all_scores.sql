-- score: all_scores
-- row: one document of the run
-- formula: every score of documents that one run gives, as in the file of its name, from one scan of the tokens
-- higher: what the score of the column's name says
-- source: those of the columns' own files, arXiv 2310.16789, arXiv 2404.02936, arXiv 2310.05130
-- reads: tokens(run_id, doc_id, logprob, logprob_mean, logprob_std, rank); documents(run_id, doc_id, zlib_bytes)
-- returns: run_id VARCHAR, doc_id BIGINT, loss DOUBLE [nats per token], zlib DOUBLE [nats per token and byte],
--   min_k DOUBLE [nats per token], min_k_plus_plus DOUBLE [standard deviations], perplexity DOUBLE [equally likely tokens],
--   log_rank DOUBLE [nats of rank per token], lrr DOUBLE [ratio],
--   fast_detectgpt DOUBLE [standard deviations of the whole text]
-- parameter: run_id VARCHAR; the run to score
-- parameter: ratio DOUBLE = 0.2; share of the tokens that min_k and min_k_plus_plus average, above 0 and at most 1
-- parameter: parity BOOLEAN = false; k of both as in their authors' code
-- note: what is not selected is not computed: `select doc_id, loss, min_k from all_scores('demo')` makes no list of z.
--   With both kinds of Min-K% some 26 bytes a token of the run are held in memory.
with standardized as (
  select doc_id, logprob, logprob_mean, logprob_std, rank, (logprob::double - logprob_mean) / logprob_std as z
  from tokens
  where run_id = $run_id
),
gathered as (
  select
    doc_id,
    avg(logprob) as mean_logprob,
    avg(ln(rank)) as mean_log_rank,
    sum(logprob::double - logprob_mean) as excess,
    sqrt(sum(logprob_std::double * logprob_std)) as deviation,
    count(z) filter (not isnan(z)) as n_defined,
    list(logprob) filter (logprob is not null) as logprobs,
    list(z) filter (z is not null and ($parity or not isnan(z))) as zs
  from standardized
  group by doc_id
),
cut as (
  select
    *,
    floor(len(logprobs) * $ratio::double) as whole,
    floor(len(zs) * $ratio::double) as whole_z,
    list_aggregate(logprobs, 'quantile_disc', $ratio::double)::double as t,
    list_aggregate(zs, 'quantile_disc', $ratio::double) as t_z
  from gathered
),
low as (
  select
    *,
    case when $parity then nullif(whole, 0) else greatest(whole, 1) end as k,
    case when not $parity then greatest(whole_z, 1) when whole_z between 1 and n_defined then whole_z end as k_z,
    list_filter(logprobs, lambda x: x < t) as below,
    list_filter(zs, lambda z: z < t_z) as below_z
  from cut
)
select
  $run_id::varchar as run_id,
  l.doc_id,
  mean_logprob as loss,
  mean_logprob / d.zlib_bytes as zlib,
  (coalesce(list_sum(below), 0) + case when len(below) >= k then 0 else (k - len(below)) * t end) / k as min_k,
  (coalesce(list_sum(below_z), 0) + case when len(below_z) >= k_z then 0 else (k_z - len(below_z)) * t_z end) / k_z
    as min_k_plus_plus,
  exp(-mean_logprob) as perplexity,
  -mean_log_rank as log_rank,
  case when mean_log_rank = 0 then 'infinity'::double else -mean_logprob / mean_log_rank end as lrr,
  case when excess <> 0 or deviation <> 0 then excess / deviation end as fast_detectgpt
from low l
left join documents d on d.run_id = $run_id and d.doc_id = l.doc_id;

-- score: all_scores
-- row: one document of the run
-- formula: scores of documents that the core columns of one run give, as in the file of each name, from one scan
-- higher: what the score of the column's name says
-- source: those of the columns' own files, arXiv 2310.16789, arXiv 2404.02936, arXiv 2310.05130
-- reads: tokens(run_id, doc_id, logprob, entropy, logprob_mean, logprob_std, rank);
--   documents(run_id, doc_id, zlib_bytes)
-- returns: run_id VARCHAR, doc_id BIGINT, loss DOUBLE [nats per token], zlib DOUBLE [nats per token and byte],
--   min_k DOUBLE [nats per token], min_k_plus_plus DOUBLE [standard deviations], max_k DOUBLE [nats per token],
--   max_renyi DOUBLE [nats per token], surp DOUBLE [nats per token], polarized_distance DOUBLE [nats per token],
--   perplexity DOUBLE [equally likely tokens], log_rank DOUBLE [nats of rank per token], lrr DOUBLE [ratio],
--   fast_detectgpt DOUBLE [standard deviations of the whole text]
-- parameter: run_id VARCHAR; the run to score
-- parameter: ratio DOUBLE = 0.2 in [0, 1]; share of the tokens that the scores named by k average
-- parameter: parity BOOLEAN = false; k of min_k, min_k_plus_plus and surp as in the code they are compared with
-- parameter: max_entropy DOUBLE = 2.0 in [0, inf]; nats; of surp
-- parameter: low DOUBLE = 0.3 in (0, 1]; of polarized_distance, share of the tokens at the unlikely end
-- parameter: high DOUBLE = 0.05 in (0, 1]; of polarized_distance, share of the tokens at the likely end
-- note: what is not selected is not computed: `select doc_id, loss, max_renyi from all_scores('demo')` sorts nothing.
--   The log-probabilities of a document are sorted once for every score that ranks them. With one or two such scores
--   their own files are faster, for they select without a sort; from three on the sort is. z and entropies are ranked
--   for one score each, so they are not sorted. With all scores some 40 bytes a token of the run are held in memory.
with standardized as (
  select
    doc_id,
    logprob,
    entropy,
    logprob_mean,
    logprob_std,
    rank,
    (logprob::double - logprob_mean) / logprob_std as z
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
    list_sort(list(logprob) filter (logprob is not null)) as logprobs,
    list(logprob) filter (logprob is not null and entropy < $max_entropy::double) as certain,
    list(entropy) filter (entropy is not null) as entropies,
    list(z) filter (z is not null and ($parity or not isnan(z))) as zs
  from standardized
  group by doc_id
),
cut as (
  select
    *,
    len(logprobs) as n,
    case when $parity then 0 else 1 end as least_k,
    floor(len(zs) * $ratio::double) as whole_z,
    if($ratio >= 0, greatest(floor(len(entropies) * $ratio::double), 1), null) as k_h,
    list_aggregate(zs, 'quantile_disc', $ratio::double) as t_z,
    list_aggregate(entropies, 'quantile_disc', (-$ratio)::double)::double as t_h
  from gathered
),
ends as (
  select
    *,
    if($ratio between 0 and 1, nullif(greatest(floor(n * $ratio::double), least_k), 0)::bigint, null) as k,
    if($ratio between 0 and 1, greatest(floor(n * $ratio::double), 1)::bigint, null) as k_top,
    if($low between 0 and 1, greatest(floor(n * $low::double), 1)::bigint, null) as k_low,
    if($high between 0 and 1, greatest(floor(n * $high::double), 1)::bigint, null) as k_high,
    case
      when not $parity and whole_z >= 0 then greatest(whole_z, 1)
      when whole_z between 1 and len(list_filter(zs, lambda z: not isnan(z))) then whole_z
    end as k_z,
    list_filter(zs, lambda z: z < t_z) as below_z,
    list_filter(entropies, lambda h: h > t_h) as above_h
  from cut
),
means as (
  select
    *,
    logprobs[k] as edge,
    (coalesce(list_sum(below_z), 0) + case when len(below_z) >= k_z then 0 else (k_z - len(below_z)) * t_z end) / k_z
      as low_z,
    (coalesce(list_sum(above_h), 0) + case when len(above_h) >= k_h then 0 else (k_h - len(above_h)) * t_h end) / k_h
      as high_h
  from ends
)
select
  $run_id::varchar as run_id,
  m.doc_id,
  mean_logprob as loss,
  mean_logprob / d.zlib_bytes as zlib,
  list_sum(logprobs[1:k]) / k as min_k,
  low_z as min_k_plus_plus,
  list_sum(logprobs[n - k_top + 1:]) / k_top as max_k,
  -high_h as max_renyi,
  list_avg(list_filter(certain, lambda x: x <= edge)) as surp,
  nullif(list_sum(logprobs[1:k_low]) / k_low - list_sum(logprobs[n - k_high + 1:]) / k_high, 'nan'::double)
    as polarized_distance,
  exp(-mean_logprob) as perplexity,
  -mean_log_rank as log_rank,
  case when mean_log_rank = 0 then 'infinity'::double else -mean_logprob / mean_log_rank end as lrr,
  case when excess <> 0 or deviation <> 0 then excess / deviation end as fast_detectgpt
from means m
left join documents d on d.run_id = $run_id and d.doc_id = m.doc_id;

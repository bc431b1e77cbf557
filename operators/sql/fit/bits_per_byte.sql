-- score: bits_per_byte
-- row: one domain of the run (level 'domain', domain NULL where the documents name none), and one row for all of them
--   (level 'corpus')
-- formula: -(sum of ln p) / (ln 2 * sum of n_bytes), sums over documents: a ratio of sums, never a mean of ratios
-- higher: worse fit
-- source: lm-evaluation-harness, arXiv 2405.14782; Paloma, arXiv 2312.10523; perplexity correlations, arXiv 2409.05816
-- reads: tokens(run_id, doc_id, logprob); documents(run_id, doc_id, domain, n_bytes); runs(run_id, bos_prepended)
-- returns: run_id VARCHAR, level VARCHAR, domain VARCHAR, n_documents BIGINT, n_bytes BIGINT, n_fed BIGINT,
--   n_scored BIGINT, lm_eval DOUBLE [bits per byte], paloma DOUBLE [bits per byte],
--   perplexity_correlations DOUBLE [bits per byte]
-- parameter: run_id VARCHAR; the run to measure
-- note: three conventions are in use, and they differ.
--   lm_eval: every token of the text is scored, the first after a prefix token; NULL unless the run fed one.
--   paloma: the scored tokens only, over all bytes; the row for the corpus is the plain mean over its domains.
--   perplexity_correlations: the unscored first token is extrapolated, mean -ln p times the number of tokens fed.
with per_document as (
  select run_id, doc_id, sum(logprob) as total, avg(logprob) * count(*) as extrapolated, count(*) as fed,
    count(logprob) as scored
  from tokens
  where run_id = $run_id
  group by run_id, doc_id
),
per_level as (
  select
    p.run_id,
    case when grouping(d.domain) = 0 then 'domain' else 'corpus' end as level,
    d.domain,
    count(*) as n_documents,
    sum(d.n_bytes)::bigint as n_bytes,
    sum(p.fed)::bigint as n_fed,
    sum(p.scored)::bigint as n_scored,
    -sum(p.total) / (ln(2) * sum(d.n_bytes)) as scored_bits,
    -sum(p.extrapolated) / (ln(2) * sum(d.n_bytes)) as extrapolated_bits
  from per_document p
  join documents d on d.run_id = p.run_id and d.doc_id = p.doc_id
  where d.run_id = $run_id
  group by grouping sets ((p.run_id, d.domain), (p.run_id))
)
select
  l.run_id,
  l.level,
  l.domain,
  l.n_documents,
  l.n_bytes,
  l.n_fed,
  l.n_scored,
  case when r.bos_prepended then l.scored_bits end as lm_eval,
  case when l.level = 'domain' then l.scored_bits else avg(l.scored_bits) filter (l.level = 'domain') over () end
    as paloma,
  l.extrapolated_bits as perplexity_correlations
from per_level l
left join runs r on r.run_id = l.run_id
order by l.level desc, l.domain nulls last;

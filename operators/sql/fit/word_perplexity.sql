-- score: word_perplexity
-- row: one domain of the run (level 'domain', domain NULL where the documents name none), and one row for all of them
--   (level 'corpus')
-- formula: exp(-(sum of ln p) / (sum of n_words)), sums over documents: a ratio of sums, never a mean of ratios
-- higher: worse fit
-- source: lm-evaluation-harness, arXiv 2405.14782
-- reads: tokens(run_id, doc_id, logprob); documents(run_id, doc_id, domain, n_words); runs(run_id, bos_prepended)
-- returns: run_id VARCHAR, level VARCHAR, domain VARCHAR, n_documents BIGINT, n_words BIGINT, n_fed BIGINT,
--   n_scored BIGINT, lm_eval DOUBLE [equally likely words], scored_only DOUBLE [equally likely words]
-- parameter: run_id VARCHAR; the run to measure
-- note: lm_eval: every token of the text is scored, the first after a prefix token; NULL unless the run fed one.
--   scored_only: without the first token where it is not scored, so a little too low. Words are the pieces of a split
--   on white space, empty ones at either end included, as there. Its rolling windows keep one token of context, ours at
--   least context - stride, so long documents fit better here.
with per_document as (
  select run_id, doc_id, sum(logprob) as total, count(*) as fed, count(logprob) as scored
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
    sum(d.n_words)::bigint as n_words,
    sum(p.fed)::bigint as n_fed,
    sum(p.scored)::bigint as n_scored,
    exp(-sum(p.total) / sum(d.n_words)) as perplexity
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
  l.n_words,
  l.n_fed,
  l.n_scored,
  case when r.bos_prepended then l.perplexity end as lm_eval,
  l.perplexity as scored_only
from per_level l
left join runs r on r.run_id = l.run_id
order by l.level desc, l.domain nulls last;

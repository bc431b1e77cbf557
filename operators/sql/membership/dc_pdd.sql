-- score: dc_pdd
-- row: one document of the run
-- formula: mean over ids of min(cap, p_t ln(1 / f)), t = where an id first occurs, f = (n + 1) / (sum of n + V) of it
-- higher: more member-like
-- source: DC-PDD, Zhang et al. 2024, arXiv 2409.14781
-- reads: tokens(run_id, doc_id, position, token_id, logprob); frequencies(corpus, token_id, n, n_documents)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats]
-- parameter: run_id VARCHAR; the run to score
-- companion: corpus VARCHAR; frequencies
-- parameter: cap DOUBLE = 0.01 in (0, inf]; the paper's a, the most that a token counts for; tuned by data set there
-- parameter: by_documents BOOLEAN = false; n = documents that hold the id, as MIMIR's code counts; else occurrences
-- note: V is the number of ids of the corpus's vocabulary. Occurrences count where a token has a prediction: the
--   authors' code leaves out the first token, MIMIR's scores it after an EOS, and here it is as the run was fed. The
--   authors count the first 1024 tokens of a document (assay frequencies --first-tokens 1024). NULL where no token is
--   scored; an id that the corpus has no row for is taken as one that never occurs. Holds some 60 bytes an id and
--   document in memory.
with corpus_size as (
  select
    case
      when count(*) = 0 then error('no corpus ''' || $corpus || ''' in frequencies')
      else sum(case when $by_documents then n_documents else n end) + count(*)
    end as total
  from frequencies
  where corpus = $corpus
),
surprise as (
  select token_id, -ln((case when $by_documents then n_documents else n end + 1) / total) as nats
  from frequencies
  cross join corpus_size
  where corpus = $corpus
),
weighed as (
  select
    doc_id,
    t.token_id,
    position,
    exp(logprob::double) * coalesce(nats, (select ln(total) from corpus_size)) as alpha
  from tokens t
  left join surprise s on s.token_id = t.token_id
  where run_id = $run_id
),
first_occurrences as (
  select doc_id, token_id, arg_min(alpha, position) filter (alpha is not null) as alpha
  from weighed
  group by doc_id, token_id
),
means as (
  select doc_id, avg(case when alpha > $cap then $cap else alpha end) as score
  from first_occurrences
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, score
from means;

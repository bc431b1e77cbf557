-- score: gltr
-- row: one document of the run
-- formula: share of the scored tokens whose rank is at most `top`
-- higher: more machine-like
-- source: GLTR, Gehrmann et al. 2019, arXiv 1906.04043
-- reads: tokens(run_id, doc_id, rank)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [share of the tokens]
-- parameter: run_id VARCHAR; the run to score
-- parameter: top INTEGER = 10 in [1, inf); the highest rank that counts; 10, 100 and 1000 bound the paper's colours
-- rollup: n_rank_1 / n_scored if $top = 1
-- note: the paper shows the shares of all four buckets; those between two bounds are differences of this score. NULL
--   where no token is scored.
with shares as (
  select doc_id, avg((rank <= $top)::integer) as share
  from tokens
  where run_id = $run_id
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, share as score
from shares;

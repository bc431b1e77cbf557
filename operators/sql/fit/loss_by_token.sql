-- score: loss_by_token
-- row: one vocabulary id that the run fed
-- formula: -(mean of ln p) over the scored occurrences of the token
-- higher: worse fit
-- source: Paloma, Magnusson et al. 2023, arXiv 2312.10523
-- reads: tokens(run_id, token_id, logprob)
-- returns: run_id VARCHAR, token_id INTEGER, n_fed BIGINT, n_scored BIGINT, loss_mean DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to measure
-- note: the mean over occurrences, which Paloma reports by vocabulary type; its own code was not read. NULL where no
--   occurrence is scored, as of a token that only ever comes first.
with per_token as (
  select token_id, count(*) as n_fed, count(logprob) as n_scored, -avg(logprob) as loss_mean
  from tokens
  where run_id = $run_id
  group by token_id
)
select $run_id::varchar as run_id, token_id, n_fed, n_scored, loss_mean
from per_token
order by token_id;

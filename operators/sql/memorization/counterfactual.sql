-- score: counterfactual
-- row: one document
-- formula: mean of M over the models trained with it - mean of M over those trained without; M = share of greedy tokens,
--   and mean ln p_t
-- higher: more memorised
-- source: counterfactual memorisation, Zhang et al. 2023, arXiv 2112.12938
-- reads: tokens(run_id, doc_id, token_id, logprob, rank, top1_id, topk_id); documents(run_id, doc_id, label)
-- optional: extremes, topk
-- returns: run_id VARCHAR, doc_id BIGINT, n_with BIGINT [models], n_without BIGINT [models], memorisation DOUBLE [share],
--   accuracy_with DOUBLE [share], accuracy_without DOUBLE [share], gain DOUBLE [nats per token],
--   logprob_with DOUBLE [nats per token], logprob_without DOUBLE [nats per token]
-- parameter: run_id VARCHAR; one run of the documents
-- parameter: others VARCHAR[] = []; the other runs, each by a model trained on a sample of its own
-- note: each run is by one model, and its labels say what that model was trained on: 1 with, 0 without. A document
--   without a label in a run does not count there. memorisation and gain are NULL where no model of one kind is there;
--   with few models of each they are noisy.
with fit as (
  select
    run_id,
    doc_id,
    avg(coalesce(top1_id = token_id, topk_id[1] = token_id, rank = 1)::int) as accuracy,
    avg(logprob) as ll
  from tokens
  where (run_id = $run_id or list_contains($others::varchar[], run_id)) and logprob is not null
  group by run_id, doc_id
),
means as (
  select
    f.doc_id,
    count(*) filter (d.label = 1) as n_with,
    count(*) filter (d.label = 0) as n_without,
    avg(f.accuracy) filter (d.label = 1) as accuracy_with,
    avg(f.accuracy) filter (d.label = 0) as accuracy_without,
    avg(f.ll) filter (d.label = 1) as logprob_with,
    avg(f.ll) filter (d.label = 0) as logprob_without
  from fit f
  join documents d on d.run_id = f.run_id and d.doc_id = f.doc_id
  group by f.doc_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  n_with,
  n_without,
  accuracy_with - accuracy_without as memorisation,
  accuracy_with,
  accuracy_without,
  logprob_with - logprob_without as gain,
  logprob_with,
  logprob_without
from means;

-- score: fisher_rao
-- row: one document of the run
-- formula: -(1/n) sum_t (2/pi) arccos(sum_v sqrt(q_v / V)) over the n predictions of the completion, q the prediction
--   at temperature 2; sum_v sqrt(q_v) = exp(3/4 renyi_quarter - 1/4 renyi_half)
-- higher: more uncertain: nearer to the uniform distribution over the V vocabulary ids
-- source: Rainproof, Darrin et al. 2022, arXiv 2212.09171
-- reads: tokens(run_id, doc_id, in_prompt, renyi_half, renyi_quarter); runs(run_id, vocab_size)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [share of the longest distance]
-- parameter: run_id VARCHAR; the run to score
-- note: the paper's distance with the other sign, from -1 to 0: a peaked prediction is far from uniform. LM-Polygraph
--   returned the distance itself as uncertainty at first and negates it by now. The completion: the tokens after the
--   prompt where the run has prompts, all tokens elsewhere. Near 0 it is the root of a rounding error, some 1e-3. NULL
--   where no token of the completion is scored, and without the columns `renyi`.
with fidelities as (
  select
    doc_id,
    in_prompt,
    0.75 * renyi_quarter::double - 0.25 * renyi_half::double
      - ln((select max(vocab_size) from runs where run_id = $run_id)) / 2 as log_fidelity
  from tokens
  where run_id = $run_id
),
means as (
  select
    doc_id,
    avg(acos(case when log_fidelity > 0 then 1 else exp(log_fidelity) end)) filter (in_prompt is not true) as mean_angle
  from fidelities
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, -mean_angle * 2 / pi() as score
from means;

-- score: branching_factor
-- row: one document of the run
-- formula: exp(mean entropy_t) of a completion of at most `horizon` scored tokens, exp(-mean ln p_t) of a longer one
-- higher: more uncertain: more plausible next steps
-- source: Yang and Holtzman 2025, arXiv 2506.17871
-- reads: tokens(run_id, doc_id, in_prompt, logprob, entropy)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [equally likely tokens]
-- parameter: run_id VARCHAR; the run to score
-- parameter: horizon INTEGER = 50 in [0, inf); scored tokens up to which entropies are averaged, as in their code
-- note: of whole distributions, so larger than the authors', who keep the top-p 0.9: branching_factor_top_p does. They
--   also average over the samples of a prompt, position by position, before they exponentiate; here each sample is a
--   document of its own. For a longer completion it holds where the text is sampled from the model. The completion: the
--   tokens after the prompt where the run has prompts, all tokens elsewhere. NULL where none of its tokens is scored.
with means as (
  select
    doc_id,
    count(logprob) filter (in_prompt is not true) as n_scored,
    avg(entropy) filter (in_prompt is not true) as mean_entropy,
    avg(logprob) filter (in_prompt is not true) as mean_logprob
  from tokens
  where run_id = $run_id
  group by doc_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  exp(case when n_scored <= $horizon then mean_entropy else -mean_logprob end) as score
from means;

-- score: uncertainty_scores
-- row: one document of the run
-- formula: scores of completions that the tokens of one run give by plain sums, as in the file of each name, from one
--   scan
-- higher: what the score of the column's name says
-- source: those of the columns' own files, arXiv 2311.07383, arXiv 2404.10136, arXiv 2212.09171, arXiv 2506.17871
-- reads: tokens(run_id, doc_id, in_prompt, logprob, entropy, renyi_half, renyi_quarter, logprob_uniform);
--   runs(run_id, vocab_size)
-- returns: run_id VARCHAR, doc_id BIGINT, perplexity_estimator DOUBLE [nats per token], sequence_nll DOUBLE [nats],
--   mean_entropy DOUBLE [nats per token], chow_quantile DOUBLE [nats], self_certainty DOUBLE [nats per token],
--   fisher_rao DOUBLE [share of the longest distance], renyi_divergence DOUBLE [nats per token],
--   branching_factor DOUBLE [equally likely tokens]
-- parameter: run_id VARCHAR; the run to score
-- parameter: quantile DOUBLE = 0.9 in [0, 1]; of chow_quantile
-- parameter: parity BOOLEAN = false; of renyi_divergence
-- parameter: horizon INTEGER = 50 in [0, inf); of branching_factor
-- note: of the tokens after the prompt where the run has prompts, of all tokens elsewhere. What is not selected is not
--   computed, and its column is not read; the three distances are NULL without the columns `renyi`.
with completions as (
  select
    doc_id,
    logprob,
    entropy,
    logprob_uniform,
    0.75 * renyi_quarter::double - 0.25 * renyi_half::double as log_sum,
    ln((select max(vocab_size) from runs where run_id = $run_id)) as log_width,
    in_prompt is not true as is_completion
  from tokens
  where run_id = $run_id
),
means as (
  select
    doc_id,
    count(logprob) filter (is_completion) as n_scored,
    avg(logprob) filter (is_completion) as mean_logprob,
    sum(logprob) filter (is_completion) as total,
    avg(entropy) filter (is_completion) as mean_of_entropies,
    quantile_cont(-logprob::double, $quantile::double) filter (is_completion) as surprisal,
    avg(logprob_uniform) filter (is_completion) as mean_uniform,
    avg(acos(case when log_sum - log_width / 2 > 0 then 1 else exp(log_sum - log_width / 2) end))
      filter (is_completion) as mean_angle,
    avg(log_sum) filter (is_completion) as mean_log_sum,
    any_value(log_width) as log_width
  from completions
  group by doc_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  -mean_logprob as perplexity_estimator,
  -total as sequence_nll,
  mean_of_entropies as mean_entropy,
  surprisal as chow_quantile,
  mean_uniform + log_width as self_certainty,
  -mean_angle * 2 / pi() as fisher_rao,
  2 * mean_log_sum + case when $parity then 1 else -1 end * log_width as renyi_divergence,
  exp(case when n_scored <= $horizon then mean_of_entropies else -mean_logprob end) as branching_factor
from means;

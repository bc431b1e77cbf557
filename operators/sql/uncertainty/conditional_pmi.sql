-- score: conditional_pmi
-- row: one document of the run
-- formula: -(1/n) sum_t (ln p(y_t | prompt, y_<t) - weight * ln p(y_t | y_<t)) over the n scored tokens of the
--   completion; the second term only where entropy_t (with the prompt) is at least tau, and not at its first token
-- higher: more uncertain
-- source: van der Poel et al. 2022, arXiv 2210.13210; LM-Polygraph, Fadeeva et al. 2023, arXiv 2311.07383
-- reads: tokens(run_id, doc_id, position, token_id, in_prompt, logprob, entropy);
--   documents(run_id, doc_id, n_tokens, prompt_tokens)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- companion: unprompted VARCHAR; transform unprompted
-- parameter: tau DOUBLE = 0.0656 in [0, inf]; entropy in nats from which a token counts as uncertain
-- parameter: weight DOUBLE = 3.599; the paper's lambda
-- note: tau and weight are LM-Polygraph's, chosen for models of abstractive summaries, so choose them on your own data.
--   Tokens are paired as in pmi, with the same NULLs; LM-Polygraph's code takes the second term from a neighbouring row
--   of its logits, so its numbers differ.
with completion as (
  select
    t.doc_id,
    d.n_tokens - t.position as from_end,
    t.position = coalesce(d.prompt_tokens, 0) as is_first,
    t.token_id,
    t.logprob,
    t.entropy
  from tokens t
  join documents d on d.doc_id = t.doc_id
  where t.run_id = $run_id and d.run_id = $run_id and t.in_prompt is not true
),
alone as (
  select t.doc_id, d.n_tokens - t.position as from_end, t.token_id, t.logprob
  from tokens t
  join documents d on d.doc_id = t.doc_id
  where t.run_id = $unprompted and d.run_id = $unprompted
),
means as (
  select
    c.doc_id,
    avg(c.logprob::double - case when c.is_first or c.entropy < $tau then 0 else $weight * a.logprob end)
      as mean_information,
    bool_and(a.token_id is not distinct from c.token_id) as has_same_tokens
  from completion c
  left join alone a on a.doc_id = c.doc_id and a.from_end = c.from_end
  group by c.doc_id
)
select $run_id::varchar as run_id, d.doc_id, case when m.has_same_tokens then -m.mean_information end as score
from documents d
left join means m on m.doc_id = d.doc_id
where d.run_id = $run_id;

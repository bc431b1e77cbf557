-- score: pmi
-- row: one document of the run
-- formula: -(1/n) sum_t (ln p(y_t | prompt, y_<t) - ln p(y_t | y_<t)) over the n scored tokens of the completion, with
--   0 in place of the second term at its first token
-- higher: more uncertain: the prompt says less about the completion
-- source: pointwise mutual information in LM-Polygraph, Fadeeva et al. 2023, arXiv 2311.07383; van der Poel et al.
--   2022, arXiv 2210.13210
-- reads: tokens(run_id, doc_id, position, token_id, in_prompt, logprob);
--   documents(run_id, doc_id, n_tokens, prompt_tokens)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- companion: unprompted VARCHAR; transform unprompted
-- note: both runs end with the completion, so its tokens are paired from the end. LM-Polygraph's code takes the second
--   term from a neighbouring row of its logits, so its numbers differ; the formula is the paper's. NULL where the run
--   without prompts lacks the document or has other tokens in its place, and where no token of the completion is
--   scored.
with completion as (
  select
    t.doc_id,
    d.n_tokens - t.position as from_end,
    t.position = coalesce(d.prompt_tokens, 0) as is_first,
    t.token_id,
    t.logprob
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
    avg(c.logprob::double - case when c.is_first then 0 else a.logprob end) as mean_information,
    bool_and(a.token_id is not distinct from c.token_id) as has_same_tokens
  from completion c
  left join alone a on a.doc_id = c.doc_id and a.from_end = c.from_end
  group by c.doc_id
)
select $run_id::varchar as run_id, d.doc_id, case when m.has_same_tokens then -m.mean_information end as score
from documents d
left join means m on m.doc_id = d.doc_id
where d.run_id = $run_id;

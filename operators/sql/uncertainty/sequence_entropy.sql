-- score: sequence_entropy
-- row: one document of the run
-- formula: -(1/m) sum_i ln p(s_i | prompt) over the m completions s_i that the run has of the document's prompt
-- higher: more uncertain
-- source: Malinin and Gales 2021, arXiv 2002.07650; length-normalised in Kuhn et al. 2023, arXiv 2302.09664
-- reads: tokens(run_id, doc_id, in_prompt, logprob); documents(run_id, doc_id, text, prompt_bytes, attributes)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats]
-- parameter: run_id VARCHAR; the run to score
-- parameter: normalised BOOLEAN = false; divide each ln p(s_i) by its number of tokens: nats per token
-- parameter: attribute VARCHAR = ""; the attribute that completions of one prompt share; empty: the prompt's text
-- across: documents of one prompt
-- note: a Monte-Carlo estimate of the entropy of all completions, where the documents are samples of this model at
--   temperature 1; every sample has the value of its prompt, and one sample alone is its own. Completions without a
--   scored token are left out, as in LM-Polygraph. NULL where none is left, where the text was dropped or the run has
--   no prompts and no attribute is named, and where a document has no such attribute.
with completions as (
  select
    doc_id,
    sum(logprob) filter (in_prompt is not true) as total,
    count(logprob) filter (in_prompt is not true) as n_scored
  from tokens
  where run_id = $run_id
  group by doc_id
),
samples as (
  select
    d.doc_id,
    case
      when $attribute <> '' then encode(d.attributes[$attribute])
      when d.prompt_bytes > 0 then encode(d.text)[1:d.prompt_bytes]
      when d.prompt_bytes = 0 then encode('')
    end as prompt,
    c.total / case when $normalised then nullif(c.n_scored, 0) else 1 end as log_likelihood
  from documents d
  join completions c on c.doc_id = d.doc_id
  where d.run_id = $run_id
)
select
  $run_id::varchar as run_id,
  doc_id,
  case when prompt is not null then -avg(log_likelihood) over (partition by prompt) end as score
from samples;

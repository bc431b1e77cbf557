-- score: exposure
-- row: one canary: a document of label 1
-- formula: log2 |R| - log2 rank, rank by sum_t ln p_t of the completion, highest first, among R: the canary and the
--   documents of its group that are not of label 1
-- higher: more memorised
-- source: The Secret Sharer, Carlini et al. 2019, arXiv 1802.08232
-- reads: tokens(run_id, doc_id, logprob, in_prompt); documents(run_id, doc_id, label, domain, attributes)
-- returns: run_id VARCHAR, doc_id BIGINT, candidates VARCHAR, logprob_sum DOUBLE [nats], rank BIGINT [1 = most likely],
--   n_candidates BIGINT [count], exposure_bits DOUBLE [bits], most_bits DOUBLE [bits], p_value DOUBLE [probability]
-- parameter: run_id VARCHAR; the run to search
-- parameter: grouping VARCHAR = "domain"; what a canary and its candidates share: `domain`, or the name of a kept column
-- note: candidates must come from the template that the canary was drawn from. p_value = rank / |R|: of a canary drawn
--   uniformly from R, exact whatever the model, as other canaries are left out of R. A tie counts against the canary, in
--   both numbers. exposure_bits is at most most_bits = log2 |R|: more takes more candidates. Ranked by the total: a mean
--   per token is no probability of the text, and favours texts of many easy tokens. An EOS fed behind the text is
--   in the sum; without a BOS the first token is not. Documents without the grouping or without a prediction are no candidates; a canary without has NULL.
with totals as (
  select doc_id, sum(logprob::double) as lp
  from tokens
  where run_id = $run_id and logprob is not null and in_prompt is not true
  group by doc_id
),
grouped as (
  select
    d.doc_id,
    case when $grouping = 'domain' then d.domain else d.attributes[$grouping::varchar] end as shared,
    coalesce(d.label = 1, false) as is_canary,
    t.lp
  from documents d
  left join totals t on t.doc_id = d.doc_id
  where d.run_id = $run_id
),
ranked as (
  select
    *,
    1 + count(lp) filter (not is_canary) over (partition by shared) as n_candidates,
    1 + count(lp) filter (not is_canary) over (
      partition by shared order by lp desc nulls last range between unbounded preceding and current row
    ) as place
  from grouped
  where shared is not null
)
select
  $run_id::varchar as run_id,
  doc_id,
  shared as candidates,
  lp as logprob_sum,
  case when lp is not null then place end as rank,
  n_candidates,
  case when lp is not null then log2(n_candidates) - log2(place) end as exposure_bits,
  log2(n_candidates) as most_bits,
  case when lp is not null then place / n_candidates end as p_value
from ranked
where is_canary
order by exposure_bits desc nulls last, doc_id;

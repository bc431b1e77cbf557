-- score: con_recall
-- row: one document of the run
-- formula: (LL(text | prefix of non-members) - gamma * LL(text | prefix of members)) / LL(text), LL = mean of ln p_t
-- higher: more member-like
-- source: Con-ReCall, Wang et al. 2024, arXiv 2409.03363
-- reads: tokens(run_id, doc_id, position, logprob)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [ratio]
-- parameter: run_id VARCHAR; the run to score
-- companion: prefixed VARCHAR; transform prefix:label=0; such as prefix:label=0,shots=7
-- companion: member_prefixed VARCHAR; transform prefix:label=1; such as prefix:label=1,shots=7
-- parameter: gamma DOUBLE = 1.0; weight of the prefix of members
-- parameter: aligned BOOLEAN = false; all means over the tokens after the first, which only the prefix lets score
-- note: gamma is tuned in the paper; 1 is that of mia_llms_benchmark, which averages over prefix and text together and
--   is no parity target. The members of the prefix must not be those that are judged: they have NULL here, as the
--   non-members of the other prefix have. NULL, too, where a part has no scored token or the mean of the text is 0.
with original as (
  select doc_id, avg(logprob) filter (not $aligned or position >= 1) as ll
  from tokens
  where run_id = $run_id
  group by doc_id
),
after_others as (
  select doc_id, avg(logprob) filter (not $aligned or position >= 1) as ll
  from tokens
  where run_id = $prefixed
  group by doc_id
),
after_members as (
  select doc_id, avg(logprob) filter (not $aligned or position >= 1) as ll
  from tokens
  where run_id = $member_prefixed
  group by doc_id
)
select
  $run_id::varchar as run_id,
  o.doc_id,
  nullif((n.ll - $gamma::double * m.ll) / nullif(o.ll, 0), 'nan'::double) as score
from original o
left join after_others n on n.doc_id = o.doc_id
left join after_members m on m.doc_id = o.doc_id;

-- score: atc
-- row: one document of the run: code behind a prompt that asks for it
-- formula: -(1/n) sum_t entropy_t over the n predictions of the code's tokens outside comments and docstrings
-- higher: more machine-like
-- source: approximated task conditioning, Ashkenazi et al. 2025, arXiv 2506.06069
-- reads: tokens(run_id, doc_id, position, in_prompt, in_comment, entropy)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
-- parameter: run_id VARCHAR; the run to score
-- parameter: parity BOOLEAN = false; as the authors' code, which leaves out the token after each token of a comment
--   instead of that token
-- note: the prompt is the task that a model infers from the code, and is made elsewhere: put it into the prompt column,
--   with the authors' words around it (detection/detector.py of maorash/ATC), and score with the code's language. Their
--   comments are whole lines and triple-quoted strings found by regular expressions; ours are found by a lexer. NULL in
--   a run without prompts, for documents whose comments are not known, and where no token is left.
with flagged as (
  select
    doc_id,
    entropy,
    not in_prompt and in_comment is not null as is_code,
    in_comment,
    lag(in_comment, 1, false) over (partition by doc_id order by position) as follows_comment
  from tokens
  where run_id = $run_id
),
means as (
  select
    doc_id,
    avg(entropy) filter (
      is_code and not (case when $parity then coalesce(follows_comment, false) else in_comment end)
    ) as mean_entropy
  from flagged
  group by doc_id
)
select $run_id::varchar as run_id, doc_id, -mean_entropy as score
from means;

"""Makes a DuckDB table macro of every score: `from min_k('demo', ratio := 0.1)`.

    bound           select ... where run_id = $run_id        {"run_id": "demo", "ratio": 0.1}
    in a shell      from min_k('demo', ratio := 0.1)         $run_id is the macro's first argument, called `run`
                    from lowercase('demo', 'demo-lower')     companions come next

The statement of a file reads `tokens`, always: it is the definition. A macro answers from the roll-ups of `documents`
where the whole run has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb

from operators.score_cards import Parameter, Score, literal, load_scores
from operators.scores.compute import WHOLE_RUN


def _all_or_none(unwanted: str) -> str:
    return f"select * from main.tokens where not {unwanted}"


def create_macros(connection: duckdb.DuckDBPyConnection, tokens: Callable[[str], str] = _all_or_none) -> None:
    """Make a table macro of every score, with its card as comment. The views must be there.

    `tokens` gives the SELECT of all tokens, or of none where a condition holds, which is an expression in brackets.
    """
    cards = load_scores()
    for card in cards.values():
        connection.execute(_macro_sql(card, cards, tokens))
        connection.execute(f'comment on macro table "{card.name}" is {literal(card.comment)}')


def _macro_sql(card: Score, cards: Mapping[str, Score], tokens: Callable[[str], str]) -> str:
    """The statement as a table macro of the card's name, from the roll-ups where the run has them."""
    columns = {"score": card} if card.is_per_document else {n: cards[n] for n in card.document_scores if n in cards}
    rolled_up = {name: each for name, each in columns.items() if each.rollup}
    body = card.in_macro(card.body)
    if rolled_up and len(rolled_up) == len(card.returns) - 2:
        kept = ", ".join(f'{card.in_macro(each.rollup)} as "{name}"' for name, each in rolled_up.items())
        conditions = " and ".join(f"({card.in_macro(each.rollup_if)})" for each in rolled_up.values())
        body = f"""
with rolled_up as (
  select whole_run and {conditions} as yes
  from (select {WHOLE_RUN} as whole_run from documents where run_id = run)
),
tokens as (
  {tokens("(select yes from rolled_up)")}
)
select run_id, doc_id, {kept} from documents where run_id = run and (select yes from rolled_up)
union all
select * from (
{body}
)"""
    heads = ", ".join(p.macro_head for p in card.parameters)
    return f'create or replace macro "{card.name}"({heads}) as table\n{_checked(card, body)}'


def _checked(card: Score, body: str) -> str:
    """The statement, which fails where an argument is out of its range; arguments are constants, so at no cost."""
    cases = "".join(
        f" when not coalesce({p.macro_check}, false) then {_refusal(card, p)}"
        for p in card.parameters
        if p.range is not None
    )
    return f"select * from (\n{body}\n) where case{cases} else true end" if cases else body


def _refusal(card: Score, parameter: Parameter) -> str:
    before, after = literal(f"{card.name}: {parameter.name} = "), literal(f" is not in {parameter.range}")
    return f"error({before} || {parameter.macro_name}::varchar || {after})::boolean"

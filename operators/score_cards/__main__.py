"""Prints every score as Markdown, by family.

python -m operators.score_cards > operators/sql/SCORES.md
"""

from operators.score_cards import load_scores
from operators.score_cards.markdown import scores_markdown

if __name__ == "__main__":
    print("# Scores\n\nGenerated from the headers of the files in this folder by `python -m operators.score_cards`.\n")
    print(scores_markdown(load_scores().values()), end="")

"""Prints every table of the lake as Markdown.

python -m schemas > schemas/TABLES.md
"""

from schemas import TABLES

if __name__ == "__main__":
    print("# Tables of the lake\n\nGenerated from the records in this folder by `python -m schemas`.\n")
    print("\n".join(table.markdown() for table in TABLES), end="")

"""A lake of two checkpoints and a reference over the same documents, of four domains, one of them unnamed.

reweighted.make_lake(path)          runs `early`, `late` (of fewer documents), `ref`, `sparse` (none of `books`); of no
                                    use with them `other` (tokenizer), `shifted` (tokens), `half` (interrupted)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import labelled
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake
from operators.parquet import encode
from schemas import TOKENS

HOSTILE = "[bold]'; drop table documents --\x1b[31m"
DOMAINS = ("web", "books", HOSTILE, None)
ALONE = "alone"  # a domain of one document


def make_lake(path: Path) -> None:
    rng, lake = np.random.default_rng(0), Lake(str(path))
    made = [
        replace(document, domain=DOMAINS[i % 4], attributes={"half": "ab"[i % 2]})
        for i, document in enumerate(labelled.documents(rng, 40))
    ]
    made[0] = replace(made[0], domain=ALONE)
    labelled.write_run(lake, "ref", made, features=())
    for name, spread in (("early", 0.5), ("late", 0.2)):
        changed = [
            replace(d, logprobs=np.round(d.logprobs * rng.uniform(0.9, 1.1 + spread * (i % 4), d.logprobs.size), 1))
            for i, d in enumerate(made)
        ]
        labelled.write_run(lake, name, changed[:-4], features=(), model=name)
    labelled.write_run(lake, "sparse", [d for d in made if d.domain != "books"], features=(), model="sparse")
    labelled.write_run(lake, "other", made, features=(), tokenizer="tokenizer-b")
    labelled.write_run(lake, "shifted", made, features=())
    for part in lake.parts(TOKENS.name, "shifted"):
        with lake.storage.parquet(part.path) as file:
            rows = file.read()
        place = rows.schema.get_field_index("token_id")
        moved = pc.add(rows["token_id"], pa.scalar(1, pa.int32()))
        lake.storage.write(part.path, encode(rows.set_column(place, rows.field(place), moved), TOKENS))
    lake.write_run("half", lake.read_run("early") | {"run_id": "half", "state": "interrupted"})

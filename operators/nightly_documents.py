"""`nightly_documents`: the corpus of a nightly job as it is now, each document once, from the newest run that holds it.

    last list of each nightly job -> the run whose rows of a shard are current -> documents -> one of each doc_id

A document of a changed shard is in the runs of two nights: only those of the newer run are here. A document whose shard
has left the input stays, with `is_removed`, for as long as its run is kept. The price: `run_id`, `source` and `doc_id`
of all documents of the runs that are current are read, whichever columns are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas import DOCUMENTS, NIGHT_SHARDS

NIGHTLY_DOCUMENTS = "nightly_documents"
ROW = "one document of a nightly job's corpus as its last night left it; key (nightly, doc_id)"


def nightly_documents_sql() -> str:
    """The SELECT of the view."""
    return f"""
with last_night as (
  select nightly, max("date") as "date"
  from {NIGHT_SHARDS.name}
  group by nightly
),
current as (
  select nightly, uri, run_id, scored, state in ('removed', 'gone') as is_removed
  from {NIGHT_SHARDS.name} semi join last_night using (nightly, "date")
  where run_id is not null
),
newest as (
  select
    c.nightly, d.doc_id,
    max({{'is_there': not c.is_removed, 'scored': c.scored, 'run_id': d.run_id}}) as chosen
  from documents d
  join current c on c.run_id = d.run_id and c.uri = d.source
  group by c.nightly, d.doc_id
)
select n.nightly, n.chosen.scored as scored, not n.chosen.is_there as is_removed, d.*
from newest n
join documents d on d.run_id = n.chosen.run_id and d.doc_id = n.doc_id"""


def nightly_documents_comments() -> Mapping[str, str]:
    """What each column is."""
    return {
        "nightly": NIGHT_SHARDS["nightly"].comment,
        "scored": NIGHT_SHARDS["scored"].comment,
        "is_removed": "whether its shard has left the input since",
        **{column.name: column.comment for column in DOCUMENTS.columns},
    }

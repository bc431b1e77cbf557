"""What `assay nightly` keeps of each night: its numbers, how they compare with the nights before, and its shards.

A night is called `<name>-<YYYY-MM-DD>`, like its run. Dates are text, so that they sort and join in any tool.
"""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table
from schemas.intervals import CONFIDENCE, interval

ALL, DOMAIN, SCORE, BENCHMARK = "all", "domain", "score", "benchmark"  # parts of a night that a number is of
IDENTITY, ARCSINE = "identity", "arcsine"  # scales on which nights are compared
TONIGHT, HISTORY = "tonight", "history"  # tests
LIKE, UNLIKE = "like the nights before", "unlike the nights before"  # verdicts of `tonight`
TOO_FEW, TOO_SMALL = "too few nights", "too few documents"
STEP, TREND = "step", "trend"  # of `history`

_NIGHT = (
    Column("night", pa.string(), "the night: its nightly's name and its date", is_partition=True),
    Column("nightly", pa.string(), "name of the nightly job"),
    Column("date", pa.string(), "date of the night, YYYY-MM-DD"),
)
_WHAT = (
    Column("measure", pa.string(), "name of the number; `operators.nights.measures` says what it is"),
    Column("part", pa.string(), "all, domain, score or benchmark"),
    Column("subject", pa.string(), "which domain, score or benchmark; empty for all"),
)

NIGHT_MEASURES = Table(
    name="night_measures",
    row="one number of one night's run, of all of it or of a part",
    key=("night", "measure", "part", "subject"),
    sorted_by=("measure", "part", "subject"),
    columns=(
        *_NIGHT,
        Column("run_id", pa.string(), "the run it was taken from"),
        *_WHAT,
        Column("value", pa.float64(), "the number"),
        *interval("value"),
        CONFIDENCE,
        Column("unit", pa.string(), "bits per byte, nats, tokens per byte, share, ln bytes, ..."),
        Column("n", pa.int64(), "documents or records behind it", unit="count", minimum=0),
        Column("n_units", pa.int64(), "independent units that its error is from", unit="count", minimum=0),
        Column("method", pa.string(), "what the units are: shards, documents, or the name of a method"),
        Column("scale", pa.string(), "identity or arcsine: on which nights are compared"),
        Column("level", pa.float64(), "the number on that scale", formula="arcsine: asin(sqrt(share))"),
        Column("level_error", pa.float64(), "its standard error within the night", nullable=True, minimum=0),
    ),
)

NIGHT_CHANGES = Table(
    name="night_changes",
    row="one verdict of one night: is a number like the nights before, or where did its level change",
    key=("night", "measure", "part", "subject", "test", "verdict", "since"),
    sorted_by=("measure", "part", "subject", "test", "verdict", "since"),
    columns=(
        *_NIGHT,
        *_WHAT,
        Column("test", pa.string(), "tonight: against the nights since the last change; history: a change of level"),
        Column(
            "verdict",
            pa.string(),
            "like or unlike the nights before, too few nights or too few documents; of history: step or trend",
        ),
        Column("since", pa.string(), "first night of the new level, or of the trend; NULL for tonight", nullable=True),
        Column("since_low", pa.string(), "first night of the confidence set of `since`", nullable=True),
        Column("since_high", pa.string(), "last night of the confidence set of `since`", nullable=True),
        Column(
            "before", pa.float64(), "level before, in the number's own unit; of a trend where it began", nullable=True
        ),
        Column("after", pa.float64(), "tonight's value, or the level after", nullable=True),
        Column("expected_low", pa.float64(), "of tonight: lower end of where its number was expected", nullable=True),
        Column("expected_high", pa.float64(), "of tonight: upper end of where its number was expected", nullable=True),
        Column(
            "difference", pa.float64(), "after less before, by their levels on the scale of comparison", nullable=True
        ),
        *interval("difference"),
        CONFIDENCE,
        Column("p_value", pa.float64(), "of this number alone", nullable=True, minimum=0, maximum=1),
        Column("p_adjusted", pa.float64(), "over all numbers of the night", nullable=True, minimum=0, maximum=1),
        Column("n_nights", pa.int64(), "nights that it rests on, tonight included", unit="count", minimum=0),
        Column("is_new", pa.bool_(), "a finding, and no earlier night reported it"),
        Column("unit", pa.string(), "of before, after and difference"),
    ),
)

NIGHT_SHARDS = Table(
    name="night_shards",
    row="one shard of a night's listing",
    key=("night", "uri"),
    sorted_by=("uri",),
    columns=(
        *_NIGHT,
        Column("uri", pa.string(), "where the shard lies"),
        Column("size", pa.int64(), "of what `run_id` scored, as listed where nothing has", unit="bytes", nullable=True,
               minimum=0),
        Column("etag", pa.string(), "of the same, where the store has one", nullable=True),
        Column("state", pa.string(), "new, changed, unchanged, removed (since the last good night), gone (before), "
               "waiting (still being written) or changing (while it was scored)"),
        Column("run_id", pa.string(), "the run whose documents of this shard are current; NULL: none yet",
               nullable=True),
        Column("scored", pa.string(), "date of the night of that run", nullable=True),
    ),
)  # fmt: skip

NIGHT_TABLES = (NIGHT_MEASURES, NIGHT_CHANGES)
NIGHT_LIST_TABLES = (NIGHT_SHARDS,)

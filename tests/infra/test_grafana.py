"""The dashboard shows every metric there is, and none that is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.meters import METRICS

ROOT = Path(__file__).parents[2]
BOARD: dict[str, Any] = json.loads((ROOT / "infra/grafana/assay.json").read_text(encoding="utf-8"))
EXPORTED = {metric.exported: metric for metric in METRICS.values()}
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
QUERIES = [*EXPRESSIONS, *(each["definition"] for each in BOARD["templating"]["list"] if each["type"] == "query")]


def test_every_metric_is_shown_and_every_shown_one_exists() -> None:
    shown = {name for query in QUERIES for name in re.findall(r"\bray_assay_\w+", query)}
    assert shown == set(EXPORTED)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_labels_of_a_panel_are_those_of_its_metrics(expression: str) -> None:
    metrics = [EXPORTED[name] for name in re.findall(r"\bray_assay_\w+", expression)]
    common = set.intersection(*(set(metric.labels) for metric in metrics))
    for selector in re.findall(r"\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*=~?", selector)) <= common
        assert 'run_id=~"$run"' in selector
    for grouping in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in grouping.split(",")} <= common
    for metric in metrics:  # counters are read as rates, or as they stand since the driver started
        if metric.kind == "Gauge":
            assert f"rate({metric.exported}" not in expression


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Share of records rejected", "({r} or {d} * 0) / ({r} + {d} or {r} or {d})"),
        ("Blocks in flight", "{read} - ({write} or {read} * 0)"),
    ],
)
def test_a_counter_that_has_not_begun_is_none_not_the_end_of_a_panel(title: str, said: str) -> None:
    """Ray exports no counter before its first value: of a run without rejects, without documents, before a write."""
    counters = {"r": "assay_rejects_total", "d": "assay_documents_total"}
    rates = {
        short: f'sum by (run_id) (rate(ray_{name}{{run_id=~"$run"}}[$__rate_interval]))'
        for short, name in counters.items()
    }
    steps = {
        step: f'sum by (run_id) (ray_assay_step_blocks_total{{run_id=~"$run",step="{step}"}})'
        for step in ("read", "write")
    }
    (panel,) = [panel for panel in BOARD["panels"] if panel["title"] == title]
    assert [target["expr"] for target in panel["targets"]] == [said.format(**rates, **steps)]


def test_grafana_can_import_it() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert BOARD["schemaVersion"] >= 36
    assert [each["name"] for each in BOARD["templating"]["list"]] == ["datasource", "run"]
    for panel in BOARD["panels"]:
        assert {"id", "type", "title", "gridPos"} <= set(panel)
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(refs) == len(set(refs))
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells


def test_prometheus_looks_where_ray_names_its_nodes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    config = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    (place,) = job["file_sd_configs"]
    assert [Path(file).name for file in place["files"]] == [PROMETHEUS_SERVICE_DISCOVERY_FILE]

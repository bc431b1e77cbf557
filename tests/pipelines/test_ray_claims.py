"""A worker that dies on a living node counts; what a lost node was doing does not. Ray is made up here."""

from __future__ import annotations

import types
from typing import Any

import pyarrow as pa
import pytest

from pipelines import ray_claims
from pipelines.claims import DEATHS_OF_LOADING, WorkerDiesError, counted, guarded
from pipelines.ray_claims import PlacedClaims, RayClaims
from schemas.flow import TOKENIZED


class Killed(BaseException):
    """Stands for a SIGKILL: the process is gone, and `end` never runs."""


class MadeUpCluster:
    """Nodes `a` and `b`, where work is retried on the other one. `notices`: that a node was lost only after a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, notices: bool = True) -> None:
        self.here, self.living, self.lost, self.notices = 0, set[str](), set[str](), notices
        self.waited: list[float] = []
        self.held, self.killed = PlacedClaims(), False
        self.claims = RayClaims(types.SimpleNamespace(**{n: self._method(n) for n in ("begin", "earlier", "end")}))
        monkeypatch.setattr(ray_claims, "_this_node", lambda: self.node)
        monkeypatch.setattr(ray_claims, "living_nodes", lambda: self.living)
        monkeypatch.setattr(ray_claims.time, "sleep", self._wait)
        monkeypatch.setattr("ray.get", lambda value: value)
        self.living.add(self.node)

    @property
    def node(self) -> str:
        return f"node {self.here}"

    def _method(self, name: str) -> Any:
        def remote(*args: str) -> Any:
            return None if name == "end" and self.killed else getattr(self.held, name)(*args)

        return types.SimpleNamespace(remote=remote)

    def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.living -= self.lost

    def lose_node(self) -> None:
        self.lost.add(self.node)
        if self.notices:
            self.living.discard(self.node)
        self.move()

    def move(self) -> None:
        self.here += 1
        self.living.add(self.node)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> MadeUpCluster:
    return MadeUpCluster(monkeypatch)


def block(*texts: str) -> pa.Table:
    rows = [{"source": "s", "row": i, "key": f"s#{i}", "text": text, "token_id": [1]} for i, text in enumerate(texts)]
    return pa.Table.from_pylist([{n: row.get(n) for n in TOKENIZED.names} for row in rows], schema=TOKENIZED)


def attempt(cluster: MadeUpCluster, texts: list[str], *, lost_at: str | None) -> list[str | None] | None:
    """The reasons of a block's rows; None where the worker is killed: by `poison`, or with its node at `lost_at`."""

    def step(rows: pa.Table) -> pa.Table:
        held = [text or "" for text in rows["text"].to_pylist()]
        if "poison" in held or lost_at in held:
            cluster.killed = True
            raise Killed
        return rows

    cluster.killed = False
    try:
        done = guarded(step, block(*texts), "score 0/0", cluster.claims)
    except Killed:
        return None
    return list(done["reason"].to_pylist())


@pytest.mark.parametrize("notices", [True, False])
def test_no_document_is_rejected_for_the_nodes_that_were_lost_under_it(
    monkeypatch: pytest.MonkeyPatch, notices: bool
) -> None:
    cluster = MadeUpCluster(monkeypatch, notices=notices)
    for _ in range(6):
        assert attempt(cluster, ["sound", "good"], lost_at="sound") is None
        cluster.lose_node()
    assert attempt(cluster, ["sound", "good"], lost_at=None) == [None, None]
    assert cluster.held.begun == {}
    assert bool(cluster.waited) is not notices  # before it would have been given up


@pytest.mark.parametrize("moves", [False, True])
def test_a_document_that_kills_on_living_nodes_is_rejected_among_nodes_that_are_lost(
    cluster: MadeUpCluster, moves: bool
) -> None:
    deaths = 0
    for turn in range(20):
        if turn % 3 == 2:
            done = attempt(cluster, ["good", "poison"], lost_at="good")
            assert done is None
            cluster.lose_node()
            continue
        done = attempt(cluster, ["good", "poison"], lost_at=None)
        if done is not None:
            break
        deaths += 1
        if moves:
            cluster.move()
    assert done == [None, "killed_worker"]
    assert deaths >= 4  # twice as a block, twice alone
    assert cluster.held.begun == {}


def test_loading_ends_after_deaths_on_living_nodes_only(cluster: MadeUpCluster) -> None:
    def load(killed: bool) -> None:
        cluster.killed = killed
        with counted("loading", cluster.claims, DEATHS_OF_LOADING):
            if killed:
                raise Killed

    for _ in range(2 * DEATHS_OF_LOADING):
        with pytest.raises(Killed):
            load(True)
        cluster.lose_node()
    for _ in range(DEATHS_OF_LOADING):
        with pytest.raises(Killed):
            load(True)
    with pytest.raises(WorkerDiesError, match="loading killed its worker 3 times"):
        load(False)


def test_claims_that_are_lost_with_their_actor_are_held_against_nobody(
    cluster: MadeUpCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def fails(_: object) -> None:
        raise ray.exceptions.RayActorError

    cluster.claims.begin("score 0/0")
    monkeypatch.setattr("ray.get", fails)
    assert cluster.claims.begin("score 0/0") == cluster.claims.certain("score 0/0") == 0

"""What `assay exchangeability` is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExchangeabilityOptions:
    """What is asked for. `orders`: fields of `operators.orders.OrderOptions`, and `scoring`: fields of `ScoreConfig`,
    those that were given. `run_id` None: `<benchmark run>-orders`."""

    lake: str
    benchmark_run: str
    run_id: str | None = None
    orders: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)
    overwrite: str | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def is_specific(self) -> bool:
        """Whether it says how the orders are made or scored."""
        return bool(self.orders or self.scoring or self.overwrite)

    @property
    def orders_run(self) -> str:
        return self.run_id or f"{self.benchmark_run}-orders"

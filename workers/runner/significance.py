"""The task `significance_test`: jesse.research.rule_significance_test on stored candles.

The test has no trades: it asks the strategy for its signal at every bar, and holds the mean of what the next bars brought,
each in the signal's direction and less the market's drift, against such means from blocks of the same bars in another order.
"""
import time
from typing import Any

import jesse.helpers
import numpy as np
from jesse.research.rule_significance_testing import rule_significance

from runner import backtest, strategies
from runner.protocol import TaskError, dumps, finite

_PROGRESS_INTERVAL_S = 0.1
# Jesse's share of progress for the collection of signals.
_COLLECTED = 0.9

_collect_signals = rule_significance.run_signal_only_backtest


def run(args: dict, session: Any) -> tuple[dict, bytes]:
    """The task's result: its summary, and the body with every simulated mean."""
    warmup, trading = backtest.load_candles(args)

    session.phase = "import"
    classes = {route["strategy"]: strategies.load(route["strategy"]) for route in args["routes"]}

    session.phase = "prepare"
    signals = _Signals()
    hooks = (
        # As for a backtest: Jesse's own loader may rewrite the strategy's source file.
        (jesse.helpers, "get_strategy_class", classes.__getitem__),
        (rule_significance, "run_signal_only_backtest", signals),
    )
    began = time.perf_counter()
    with backtest.replaced(hooks):
        outcome = rule_significance.rule_significance_test(
            args["config"],
            args["routes"],
            args["data_routes"],
            trading,
            warmup or None,
            hyperparameters=args["hyperparameters"],
            n_simulations=int(args["n_simulations"]),
            random_seed=int(args["random_seed"]),
            bootstrap_mean_block_length=int(args["mean_block_length"]),
            cpu_cores=1,  # in how many steps the simulations tell their progress; they run one after another in any case
            progress_callback=_Progress(session),
        )
    compute_s = time.perf_counter() - began

    session.phase = "report"
    simulated_means = outcome.pop("simulated_means").tolist()
    found = finite({
        **outcome,
        "signals": signals.counts,
        # Jesse leaves out bars without a price, or without a next one that has a price.
        "dropped_observations": signals.bars - 1 - outcome["n_observations"],
    })
    body = {**found, "simulated_means": simulated_means, "logs": {"output": session.output()}}
    return {**found, "compute_s": compute_s}, dumps(body)


class _Signals:
    """Stands in for Jesse's collection of signals, and counts them, which the test itself does not tell."""

    def __init__(self) -> None:
        self.bars = 0
        self.counts: dict[str, int] = {}

    def __call__(self, **arguments: Any) -> tuple:
        times, closes, signals = _collect_signals(**arguments)
        self.bars = len(signals)
        if self.bars < 3:
            raise TaskError("candles_missing", f"the candles make {self.bars} bars, and a test needs three at least")
        # The last bar has no next one that its signal could be held against.
        judged = signals[:-1]
        self.counts = {name: int(np.count_nonzero(judged == sign)) for name, sign in (("long", 1), ("short", -1), ("none", 0))}
        return times, closes, signals


class _Progress:
    """What Jesse calls for every minute it replays, and once the simulations are done."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._next = 0.0

    def __call__(self, current: int, total: int) -> None:
        self._session.phase = "run"
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PROGRESS_INTERVAL_S
        fraction = min(1.0, current / total)
        self._session.progress(fraction, "collecting signals" if fraction < _COLLECTED else "resampling")

"""The task `backtest`: one run of jesse.research.backtest on stored candles."""
import random
import time
from bisect import bisect_left
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from typing import Any, Callable, Iterable, Iterator

import jesse.helpers
import numpy as np
from jesse import exceptions
from jesse.candle_pipelines.gaussian_noise import GaussianNoiseCandlesPipeline
from jesse.candle_pipelines.moving_block_bootstrap import MovingBlockBootstrapCandlesPipeline
from jesse.modes import backtest_mode
from jesse.research import backtest as jesse_backtest
from jesse.services import candle_service, charts
from jesse.store import store

from runner import strategies
from runner.protocol import TaskError, dumps, finite

_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_PROGRESS_INTERVAL_S = 0.1
# Of a UUID's 128 bits those that say its version and variant (RFC 9562).
_NOT_OF_THE_VERSION = ~((0xF << 76) | (0x3 << 62))
_VERSION_4 = (4 << 76) | (0x2 << 62)

_save_daily_balance = backtest_mode.save_daily_portfolio_balance


def run(args: dict, session: Any) -> tuple[dict, bytes]:
    """The task's result: its summary, and the body with everything in it."""
    benchmark = bool(args["benchmark"])
    if benchmark and args["finish_ms"] // _DAY_MS <= args["start_ms"] // _DAY_MS:
        raise TaskError("invalid_spec", "a benchmark needs a period that reaches into a second day")
    warmup, trading = load_candles(args)

    session.phase = "import"
    classes = {route["strategy"]: strategies.load(route["strategy"]) for route in args["routes"]}
    session.imported()

    session.phase = "prepare"
    hooks = (
        # Jesse's own loader rewrites the source file of a strategy whose class has another name than its folder.
        (jesse.helpers, "get_strategy_class", classes.__getitem__),
        # Orders and trades have ids, which would be all that two runs of the same differ in.
        (jesse.helpers, "generate_unique_id", _unique_ids(int(args.get("seed") or 0))),
        (charts, "get_candles_from_db", _DailyCandles([warmup, trading])),
        (backtest_mode, "save_daily_portfolio_balance", _Progress(session, args["start_ms"], args["finish_ms"])),
    )
    began = time.perf_counter()
    with replaced(hooks):
        outcome = jesse_backtest(
            args["config"],
            args["routes"],
            args["data_routes"],
            trading,
            warmup or None,
            generate_equity_curve=True,
            benchmark=benchmark,
            hyperparameters=args["hyperparameters"],
            fast_mode=bool(args["fast_mode"]),
            **_altered(args.get("scenario")),
        )
    compute_s = time.perf_counter() - began

    session.phase = "report"
    metrics = finite(outcome["metrics"])
    trades = outcome.get("trades") or []
    # Jesse draws no curve for a run without trades.
    portfolio, *others = [_points(curve) for curve in outcome["equity_curve"] or []] or [[]]
    body = {"metrics": metrics, "trades": trades, "equity_curve": portfolio, "logs": {"output": session.output()}}
    if others:
        body["benchmark_curve"] = {route["symbol"]: curve for route, curve in zip(args["routes"], others)}
    summary = {"metrics": metrics, "trades": len(trades), "equity_points": len(portfolio), "compute_s": compute_s}
    return summary, dumps(body)


def _altered(scenario: dict | None) -> dict:
    """What makes Jesse alter the candles: an alternative history, the same for the same seed."""
    if scenario is None:
        return {}
    pipeline, seed = dict(scenario["pipeline"]), int(scenario["seed"])
    kind, options = pipeline.pop("type"), {"batch_size": int(pipeline.pop("batch_minutes"))}
    if kind == "moving_block_bootstrap":
        return {"candles_pipeline_class": MovingBlockBootstrapCandlesPipeline, "candles_pipeline_kwargs": {**options, "seed": seed}}
    if kind == "gaussian_noise":
        np.random.seed(seed)  # what it draws from
        return {"candles_pipeline_class": GaussianNoiseCandlesPipeline, "candles_pipeline_kwargs": {**options, **pipeline}}
    raise TaskError("invalid_spec", f"unknown pipeline {kind!r}")


@contextmanager
def replaced(hooks: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Replace attributes of Jesse's modules for the length of a run; the warm-up's must not reach the children."""
    with ExitStack() as originals:
        for module, name, replacement in hooks:
            originals.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, replacement)
        yield


def _unique_ids(seed: int) -> Callable[[], str]:
    """Ids that are the same in every run of the same, from a generator of their own: strategies draw from the others."""
    draw = random.Random(f"ids {seed}").getrandbits

    def unique_id() -> str:
        # As str(uuid.UUID(int=..., version=4)), in a third of the time.
        digits = "%032x" % (draw(128) & _NOT_OF_THE_VERSION | _VERSION_4)
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return unique_id


def _points(curve: dict) -> list[dict]:
    return [{"time": int(point["time"]), "value": point["value"]} for point in curve["data"]]


def load_candles(args: dict) -> tuple[dict, dict]:
    """The warm-up and the trading candles, in the form research.backtest takes."""
    warmup_start, start, finish = args["warmup_start_ms"], args["start_ms"], args["finish_ms"]
    warmup, trading = {}, {}
    for series in args["series"]:
        exchange, symbol = series["exchange"], series["symbol"]
        months = [_open(path) for path in series["files"]]
        for target, begin, end in ((warmup, warmup_start, start), (trading, start, finish)):
            if begin >= end and target is warmup:
                continue
            rows = _between(months, begin, end)
            if args.get("fill_gaps"):
                rows = _filled(months, rows, begin, end)
            if len(rows) == 0:
                raise TaskError("candles_missing", f"no candles of {symbol} on {exchange} from {utc(begin)} to {utc(end)}")
            target[jesse.helpers.key(exchange, symbol)] = {"exchange": exchange, "symbol": symbol, "candles": rows}
    for route in args["routes"] + args["data_routes"]:
        if jesse.helpers.key(route["exchange"], route["symbol"]) not in trading:
            raise TaskError("candles_missing", f"no candles of {route['symbol']} on {route['exchange']} were given")
    return warmup, trading


def _open(path: str) -> np.ndarray:
    try:
        month = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise TaskError("candles_missing", f"candle file cannot be read: {error}") from error
    if month.ndim != 2 or month.shape[1] != 6 or month.dtype != np.float64:
        raise TaskError("candles_missing", f"not a candle file: {path}")
    return month.view(np.ndarray)


def _between(months: Iterable[np.ndarray], begin_ms: int, end_ms: int) -> np.ndarray:
    """The rows of [begin, end); only the pages that hold them are read."""
    parts = []
    for month in months:
        times = month[:, 0]
        # Not np.searchsorted, which would first copy the strided column.
        first, last = bisect_left(times, begin_ms), bisect_left(times, end_ms)
        if first < last:
            parts.append(month[first:last])
    if len(parts) == 1:
        return parts[0]  # research.backtest copies its input
    return np.concatenate(parts) if parts else np.empty((0, 6))


def _filled(months: list[np.ndarray], rows: np.ndarray, begin_ms: int, end_ms: int) -> np.ndarray:
    """The rows, and for every minute of [begin, end) without one the close before it, with no volume: what Jesse's own import
    does. Without a close before it the rows stay as they are."""
    minutes = (end_ms - begin_ms) // _MINUTE_MS
    if len(rows) == minutes:
        return rows
    before = [month[last - 1] for month in months if (last := bisect_left(month[:, 0], begin_ms)) > 0]
    if not before and (len(rows) == 0 or rows[0, 0] != begin_ms):
        return rows
    close_before = before[-1][2] if before else rows[0, 2]
    # Of each minute the position of the last candle up to it, -1 for the one before the range.
    last = np.full(minutes, -1)
    there = ((rows[:, 0] - begin_ms) // _MINUTE_MS).astype(int)
    last[there] = np.arange(len(rows))
    last = np.maximum.accumulate(last)
    closes = np.append(rows[:, 2], close_before)[last]
    filled = np.empty((minutes, 6))
    filled[:, 0] = begin_ms + _MINUTE_MS * np.arange(minutes)
    filled[:, 1:5] = closes[:, np.newaxis]
    filled[:, 5] = 0.0
    filled[there] = rows
    return filled


class _Progress:
    """Stands in for Jesse's daily bookkeeping, which every simulator calls once per simulated day, and reports as it goes."""

    def __init__(self, session: Any, start_ms: int, finish_ms: int) -> None:
        self._session = session
        self._start_ms = start_ms
        self._span_ms = max(1, finish_ms - start_ms)
        self._next = 0.0

    def __call__(self, is_initial: bool = False) -> None:
        _save_daily_balance(is_initial)
        self._session.phase = "run"
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PROGRESS_INTERVAL_S
        fraction = (store.app.time - self._start_ms) / self._span_ms
        self._session.progress(min(1.0, max(0.0, float(fraction))), f"simulated until {utc(store.app.time)[:10]}")


class _DailyCandles:
    """Serves the benchmark's daily candles, which Jesse reads from its database, from the candles of the run."""

    def __init__(self, parts: list[dict]) -> None:
        self._parts = parts

    def __call__(self, exchange: str, symbol: str, timeframe: str, start_ms: float, finish_ms: float,
                 **_: Any) -> tuple[None, np.ndarray]:
        key = jesse.helpers.key(exchange, symbol)
        begin, end = (int(moment) // _DAY_MS * _DAY_MS for moment in (start_ms, finish_ms))
        rows = _between([part[key]["candles"] for part in self._parts if key in part], begin, end)
        if len(rows) == 0:
            raise exceptions.CandlesNotFound(f"no full day of {symbol} on {exchange} to compare with")
        return None, candle_service.generate_completed_candles_from_observed_minutes(timeframe, rows, int(rows[-1, 0]) + 60_000)


def utc(moment_ms: float) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M")

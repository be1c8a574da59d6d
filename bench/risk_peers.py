"""numpy and arch, answering the requests of `risk-bench` as well as these libraries can: `answering.py` starts it.

One request a line of standard input, one line of JSON each. Times are in milliseconds, without imports.
"""
import json
import sys
import time

import arch
import numpy as np
from arch.bootstrap import StationaryBootstrap, optimal_block_length

# Paths that numpy computes at once: as many as its caches hold, which is faster than all of them.
CHUNK = 250


def positions(rng, paths, steps, number, length):
    """Positions of the stationary bootstrap for all paths at once, without a loop over steps: since the last fresh start."""
    if length == 1:
        return rng.integers(0, number, (paths, steps))
    fresh = rng.random((paths, steps)) < 1 / length
    fresh[:, 0] = True
    begin = np.maximum.accumulate(np.where(fresh, np.arange(steps), 0), axis=1)
    starts = rng.integers(0, number, (paths, steps))
    return (np.take_along_axis(starts, begin, axis=1) + np.arange(steps) - begin) % number


def simulation(returns, paths, block_length, seed, threads):
    """What the crate finds, the time under water left out: numpy has no fast form of it."""
    rng, returns = np.random.default_rng(seed), np.array(returns)
    begin = time.perf_counter()
    figures = []
    for _ in range(0, paths, CHUNK):
        growth = 1 + returns[positions(rng, CHUNK, len(returns), len(returns), block_length)]
        wealth = np.cumprod(growth, axis=1, out=growth)
        peak = np.maximum(np.maximum.accumulate(wealth, axis=1), 1)
        figures.append((wealth[:, -1], wealth.min(axis=1), 1 - (wealth / peak).min(axis=1)))
    end, lowest, drawdown = (np.concatenate(figure) for figure in zip(*figures))
    for figure in (end, end ** (365 / len(returns)) - 1, drawdown):
        np.quantile(figure, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]), figure.mean(), figure.std()
    (end < 1).mean(), (lowest <= 0.5).mean(), [(drawdown >= level).mean() for level in (0.1, 0.2, 0.3, 0.5)]
    return {"ms": (time.perf_counter() - begin) * 1e3, "median_drawdown": float(np.median(drawdown))}


def mean_and_sharpe(x):
    mean = x.mean()
    return np.array([mean, mean / x.std(ddof=1)])


def bootstrap(returns, replications, block_length, seed, threads):
    """arch's stationary bootstrap of mean and Sharpe ratio, percentile intervals."""
    begin = time.perf_counter()
    found = StationaryBootstrap(block_length, np.array(returns), seed=seed).conf_int(mean_and_sharpe, replications, method="percentile")
    return {"ms": (time.perf_counter() - begin) * 1e3, "mean": list(found[:, 0]), "sharpe": list(found[:, 1])}


def numpy_bootstrap(returns, replications, block_length, seed, threads):
    """The same, vectorised by hand."""
    rng, returns = np.random.default_rng(seed), np.array(returns)
    begin = time.perf_counter()
    figures = []
    for _ in range(0, replications, CHUNK):
        drawn = returns[positions(rng, CHUNK, len(returns), len(returns), block_length)]
        mean = drawn.mean(axis=1)
        figures.append(np.array([mean, mean / drawn.std(axis=1, ddof=1)]))
    mean, sharpe = (np.quantile(figure, [0.025, 0.975]) for figure in np.concatenate(figures, axis=1))
    return {"ms": (time.perf_counter() - begin) * 1e3, "mean": list(mean), "sharpe": list(sharpe)}


def intervals(draws, replications, seed):
    """arch's percentile intervals of mean and Sharpe ratio, with its own automatic block length."""
    found = []
    for number, x in enumerate(map(np.array, draws)):
        length = max(1.0, optimal_block_length(x)["stationary"].iloc[0])
        ends = StationaryBootstrap(length, x, seed=seed + number).conf_int(mean_and_sharpe, replications, method="percentile")
        found.append({"block_length": length, "mean": list(ends[:, 0]), "sharpe": list(ends[:, 1])})
    return {"intervals": found}


def versions():
    return {"numpy": np.__version__, "arch": arch.__version__}


ANSWERS = {answer.__name__: answer for answer in (simulation, bootstrap, numpy_bootstrap, intervals, versions)}
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(ANSWERS[request.pop("ask")](**request)), flush=True)

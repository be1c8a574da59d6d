"""Monte Carlo of 10,000 paths x 1,000 trades: this crate beside vectorised numpy, on the same data and in turns.

    cargo build --release -p risk --example speed
    python crates/risk/examples/speed.py target/release/examples/speed

Prints the median milliseconds of each and their ratio. With arch installed, its stationary bootstrap as well (1,000 paths, times
ten: it resamples one path at a time).
"""
import statistics
import subprocess
import sys
import time

import numpy as np

PATHS, TRADES, RUNS = 10_000, 1_000, 5


def summary(wealth):
    """What the crate computes of the paths, the time under water left out: numpy has no fast form of it."""
    drawdown = (1 - wealth / np.maximum.accumulate(np.maximum(wealth, 1), axis=1)).max(axis=1)
    lowest, end = wealth.min(axis=1), wealth[:, -1]
    cagr = end ** (365 / TRADES) - 1
    for figure in (end, cagr, drawdown, lowest):
        np.quantile(figure, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]), figure.mean(), figure.std()
    return np.median(drawdown)


def independent(r, rng):
    return summary(np.cumprod(1 + r[rng.integers(0, len(r), (PATHS, TRADES))], axis=1))


def blocks(r, rng, length=10):
    """Stationary bootstrap without a loop over paths: one over steps."""
    index = np.empty((PATHS, TRADES), dtype=np.int64)
    index[:, 0] = rng.integers(0, len(r), PATHS)
    fresh = rng.random((PATHS, TRADES)) < 1 / length
    starts = rng.integers(0, len(r), (PATHS, TRADES))
    for step in range(1, TRADES):
        index[:, step] = np.where(fresh[:, step], starts[:, step], (index[:, step - 1] + 1) % len(r))
    return summary(np.cumprod(1 + r[index], axis=1))


def timed(call):
    start = time.perf_counter()
    value = call()
    return (time.perf_counter() - start) * 1e3, value


def main():
    binary = sys.argv[1]
    rng = np.random.default_rng(1)
    r = rng.standard_t(5, TRADES) * 0.01 + 0.0008
    text = "\n".join(map(repr, r.tolist()))
    for name, call, length in (("independent", independent, 1), ("blocks of 10", blocks, 10)):
        theirs, ours = [], []
        for _ in range(RUNS):
            theirs.append(timed(lambda: call(r, rng)))
            out = subprocess.run([binary, "1", str(length)], input=text, capture_output=True, text=True, check=True).stdout
            ours.append(tuple(map(float, out.split())))
        numpy_ms, our_ms = (statistics.median(t for t, _ in runs) for runs in (theirs, ours))
        print(
            f"{name}: numpy {numpy_ms:.0f} ms, here {our_ms:.1f} ms, {numpy_ms / our_ms:.1f}x; "
            f"median drawdown {theirs[-1][1]:.4f} and {ours[-1][1]:.4f}"
        )
    try:
        from arch.bootstrap import StationaryBootstrap
    except ImportError:
        return
    def one(x):
        return [(1 - np.cumprod(1 + x) / np.maximum.accumulate(np.cumprod(1 + x))).max()]
    took, _ = timed(lambda: StationaryBootstrap(10, r, seed=1).apply(one, PATHS // 10))
    print(f"arch, stationary bootstrap of the drawdown alone: {took * 10:.0f} ms")


if __name__ == "__main__":
    main()

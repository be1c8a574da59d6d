"""Made-up candles of one minute."""
import numpy as np

START_MS, MINUTE_MS = 1_672_531_200_000, 60_000


def candles(days):
    """A random walk from 2023-01-01 on whose drift turns every few days, so that following trends pays now and then. In Jesse's order of columns."""
    random = np.random.default_rng(1)
    minutes = 1440 * days
    drift = np.repeat(random.choice([-1, 1], days) * 2e-5, 1440)
    close = 20_000 * np.exp(np.cumsum(random.normal(0, 0.0007, minutes) + drift))
    opened = np.concatenate([[20_000], close[:-1]])
    high = np.maximum(opened, close) * (1 + np.abs(random.normal(0, 0.0002, minutes)))
    low = np.minimum(opened, close) * (1 - np.abs(random.normal(0, 0.0002, minutes)))
    return np.column_stack([START_MS + MINUTE_MS * np.arange(minutes), opened, close, high, low, random.lognormal(1, 1, minutes)])

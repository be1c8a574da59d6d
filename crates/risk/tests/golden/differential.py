"""Computes what skfolio, empyrical-reloaded, scipy, statsmodels and arch say of seeded and of real series.

    MARKET_DATA=FOLDER python differential.py

It writes differential.json beside itself: figures only. The seeded series are those of golden.json; the real ones are read from
FOLDER, of which the tests read the same files where they are there: hourly candles of Binance (`candles-1h`), prices of stocks and of
exchange-traded funds (`daily`).
"""
import json
import os
from pathlib import Path

import empyrical
import numpy as np
import pandas as pd
import statsmodels.api as sm
from arch.bootstrap import optimal_block_length
from scipy import stats
from skfolio import measures
from skfolio.moments import LedoitWolf

import generate

HERE = Path(__file__).parent
DATA = Path(os.environ["MARKET_DATA"])
# Days of a year: of crypto, and of a stock exchange.
CRYPTO, EXCHANGE = 365, 252


def closes(symbol):
    """The last close of each day that has one at 23:00."""
    rows = pd.read_parquet(DATA / f"candles-1h/{symbol}USDT_1h_2022-2026.parquet")
    return rows.loc[rows["timestamp_ms"] % 86_400_000 == 23 * 3_600_000, "close"].to_numpy()


def prices(file, column):
    return pd.read_csv(DATA / "daily" / file)[column].dropna().to_numpy()


def changes(levels):
    return levels[1:] / levels[:-1] - 1


def of_skfolio(r):
    drawdowns = measures.get_drawdowns(r, compounded=True)
    return {
        "mean": measures.mean(r),
        "deviation": measures.standard_deviation(r),
        "worst": measures.worst_realization(r),
        "max_drawdown": measures.max_drawdown(drawdowns),
        "value_at_risk_95": generate.historical(r, 0.95)[0],
        "cvar_95": generate.historical(r, 0.95)[1],
        "value_at_risk_99": generate.historical(r, 0.99)[0],
        "cvar_99": generate.historical(r, 0.99)[1],
    }


def of_empyrical(r, per_year):
    return {
        "total_return": empyrical.cum_returns_final(r),
        "annual_return": empyrical.annual_return(r, annualization=per_year),
        "annual_volatility": empyrical.annual_volatility(r, annualization=per_year),
        "sharpe_ratio": empyrical.sharpe_ratio(r, annualization=per_year),
        "sortino_ratio": empyrical.sortino_ratio(r, annualization=per_year),
        "calmar_ratio": empyrical.calmar_ratio(r, annualization=per_year),
        "omega_ratio": empyrical.omega_ratio(r, annualization=1),
        "max_drawdown": empyrical.max_drawdown(r),
    }


def of_all(r, per_year):
    """What golden.json has of a series, and what the others say."""
    blocks = optimal_block_length(r)
    lags = int(4 * (len(r) / 100) ** (2 / 9))
    mean = sm.OLS(r, np.ones(len(r))).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    return {
        "per_year": per_year,
        "length": len(r),
        "performance": generate.performance(r, per_year),
        "sharpe": generate.sharpe_figures(r),
        "tail_95": generate.tail(r, 0.95),
        "tail_99": generate.tail(r, 0.99),
        "var_backtest": generate.var_backtest(r, 0.95),
        "block": [blocks.iloc[0]["stationary"], blocks.iloc[0]["circular"]],
        "newey_west": [lags, mean.bse[0], mean.tvalues[0]],
        "skfolio": of_skfolio(r),
        "empyrical": of_empyrical(r, per_year),
    }


def stocks():
    table = pd.read_csv(DATA / "daily/sp500_20stocks_1990-2022.csv.gz", index_col=0)
    r = changes(table.to_numpy())
    market = r[:, 1:].mean(axis=1)
    # By skfolio's estimator, which centres the returns, and by empyrical's beta of the first stock upon the mean of the others.
    fit = LedoitWolf().fit(r)
    alpha, beta = empyrical.alpha_beta(pd.Series(r[:, 0]), pd.Series(market), annualization=EXCHANGE)
    return {
        "pearson": np.corrcoef(r.T)[0],
        "spearman": stats.spearmanr(r).statistic[0],
        "shrinkage": fit.shrinkage_,
        "shrunk_first_row": fit.covariance_[0],
        "alpha": (1 + alpha) ** (1 / EXCHANGE) - 1,
        "beta": beta,
        "factors": generate.factors(r[:, 0], market[:, None]),
    }


def main():
    golden = json.loads((HERE / "golden.json").read_text())
    seeded = {name: np.array(series["returns"]) for name, series in golden["series"].items()}
    out = {
        "seeded": {name: {"skfolio": of_skfolio(r), "empyrical": of_empyrical(r, CRYPTO)} for name, r in seeded.items()},
        "real": {
            "BTC": of_all(changes(closes("BTC")), CRYPTO),
            "XRP": of_all(changes(closes("XRP")), CRYPTO),
            "AAPL": of_all(changes(prices("sp500_20stocks_1990-2022.csv.gz", "AAPL")), EXCHANGE),
            "MTUM": of_all(changes(prices("factor_etfs_2014-2022.csv.gz", "MTUM")), EXCHANGE),
        },
        "stocks": stocks(),
    }
    plain = lambda value: value.tolist() if hasattr(value, "tolist") else float(value)
    (HERE / "differential.json").write_text(json.dumps(out, default=plain, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Computes what the tests of this crate compare with, by the libraries of the field.

Run it in a virtual environment with the versions of requirements.txt; it writes golden.json beside itself. It is only needed
when a comparison is added: the numbers are kept in the repository, together with the data that they were computed from.

With DAILY naming a folder that holds brent_daily.csv.gz and wti_daily.csv.gz (github.com/datasets/oil-prices, ODC-PDDL) it also
writes oil.json anew: every fifth common day of both.
"""
import itertools
import json
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from arch.bootstrap import SPA, optimal_block_length
from scipy import stats
from sklearn.covariance import ledoit_wolf
from skfolio import measures
from statsmodels.regression.rolling import RollingOLS
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression
from statsmodels.tsa.stattools import adfuller, coint
from statsmodels.tsa.vector_ar.vecm import coint_johansen

warnings.simplefilter("ignore")
HERE = Path(__file__).parent


def published():
    """The deterministic series of 250 returns that every implementation can make by itself."""
    t = np.arange(1, 251)
    return 0.012 * np.sin(1.7 * t) + 0.009 * np.cos(0.31 * t) - 0.03 * (t % 41 == 0) + 0.0015


def fat_tailed(rng, n=600):
    """Student t with 5 degrees of freedom, autocorrelation 0.2."""
    shocks = stats.t(5).rvs(n, random_state=rng) * 0.01
    out = np.zeros(n)
    for i in range(n):
        out[i] = 0.2 * (out[i - 1] if i else 0) + shocks[i] + 0.0008
    return out


def two_regimes(rng, n=500):
    state, out = 0, []
    for _ in range(n):
        if rng.random() < (0.02 if state == 0 else 0.06):
            state = 1 - state
        out.append(rng.normal(0.001, 0.008) if state == 0 else rng.normal(-0.002, 0.03))
    return np.array(out)


def sharpe_figures(r):
    n, sr = len(r), r.mean() / r.std(ddof=1)
    g3, g4 = stats.skew(r), stats.kurtosis(r, fisher=False)
    radicand = 1 - g3 * sr + (g4 - 1) / 4 * sr * sr
    z = (r - r.mean()) / r.std()
    influence = z - sr / 2 * (z * z - 1)
    lags = int(4 * (n / 100) ** (2 / 9))
    # The error of a mean with the weights of Newey and West is that of a regression on a constant.
    hac = sm.OLS(influence, np.ones(n)).fit(cov_type="HAC", cov_kwds={"maxlags": lags}).bse[0]
    return {
        "per_period": sr,
        "standard_error": math.sqrt(radicand / (n - 1)),
        "standard_error_autocorrelated": hac,
        "psr": stats.norm.cdf(sr * math.sqrt(n - 1) / math.sqrt(radicand)),
        "min_trl": 1 + radicand * (stats.norm.ppf(0.95) / sr) ** 2,
    }


def performance(r, per_year):
    wealth = np.concatenate([[1], np.cumprod(1 + r)])
    drawdown = 1 - wealth / np.maximum.accumulate(wealth)
    cagr = wealth[-1] ** (per_year / len(r)) - 1
    return {
        "total_return": wealth[-1] - 1,
        "cagr": cagr,
        "volatility": r.std(ddof=1) * math.sqrt(per_year),
        "sharpe": r.mean() / r.std(ddof=1) * math.sqrt(per_year),
        "sortino": r.mean() / math.sqrt(np.mean(np.minimum(r, 0) ** 2)) * math.sqrt(per_year),
        "calmar": cagr / drawdown.max(),
        "omega": np.maximum(r, 0).sum() / np.maximum(-r, 0).sum(),
        "skewness": stats.skew(r),
        "kurtosis": stats.kurtosis(r, fisher=False),
        "max_drawdown": drawdown.max(),
    }


def historical(r, confidence):
    """skfolio's order statistic and shortfall. It computes (1 - 0.95) * 220 as 11.000000000000009 and takes the 12th value for
    it; where the tail is a whole number, a confidence higher by 1e-12 makes it take the 11th."""
    size = (1 - confidence) * len(r)
    if abs(size - round(size)) < 1e-9:
        confidence += 1e-12
    return [measures.value_at_risk(r, confidence), measures.cvar(r, confidence)]


def tail(r, confidence):
    z = stats.norm.ppf(1 - confidence)
    mu, sd = r.mean(), r.std(ddof=1)
    s, k = stats.skew(r), stats.kurtosis(r)
    def cf(x):
        return x + (x**2 - 1) * s / 6 + (x**3 - 3 * x) * k / 24 - (2 * x**3 - 5 * x) * s**2 / 36
    from scipy.integrate import quad
    cf_tail = quad(lambda x: cf(x) * stats.norm.pdf(x), -40, z, epsabs=1e-14, epsrel=1e-13)[0] / (1 - confidence)
    v = r[:30].var()
    forecast = []
    for x in r:
        forecast.append(math.sqrt(v))
        v = 0.94 * v + 0.06 * x * x
    residuals = (r / np.array(forecast))[30:] * math.sqrt(v)
    windows = np.array([np.prod(1 + r[i : i + 10]) - 1 for i in range(len(r) - 9)])
    m10 = (1 + mu) ** 10 - 1
    s10 = math.sqrt(((1 + mu) ** 2 + sd**2) ** 10 - (1 + mu) ** 20)
    return {
        "historical": historical(r, confidence),
        "gaussian": [-(mu + z * sd), -(mu - sd * stats.norm.pdf(z) / (1 - confidence))],
        "cornish_fisher": [-(mu + sd * cf(z)), -(mu + sd * cf_tail)],
        "ewma": [-z * math.sqrt(v), math.sqrt(v) * stats.norm.pdf(z) / (1 - confidence)],
        "filtered": historical(residuals, confidence),
        "historical_10": historical(windows, confidence),
        "gaussian_10": [-(m10 + z * s10), -(m10 - s10 * stats.norm.pdf(z) / (1 - confidence))],
    }


def var_backtest(r, confidence):
    forecast = np.full(len(r), 0.012)
    hit = (-r > forecast).astype(int)
    p = 1 - confidence
    n, x = len(hit), hit.sum()
    def ll(n0, n1, q):
        return stats.bernoulli.logpmf(0, q) * n0 + stats.bernoulli.logpmf(1, q) * n1
    kupiec = 2 * (ll(n - x, x, x / n) - ll(n - x, x, p))
    a, b = hit[:-1], hit[1:]
    n00, n01 = ((a == 0) & (b == 0)).sum(), ((a == 0) & (b == 1)).sum()
    n10, n11 = ((a == 1) & (b == 0)).sum(), ((a == 1) & (b == 1)).sum()
    pi = (n01 + n11) / (n - 1)
    independence = 2 * (
        ll(n00, n01, n01 / (n00 + n01)) + ll(n10, n11, n11 / (n10 + n11)) - ll(n00 + n10, n01 + n11, pi)
    )
    y = hit[1:]
    conditional = independence + 2 * (
        ll(n - 1 - y.sum(), y.sum(), y.mean()) - ll(n - 1 - y.sum(), y.sum(), p)
    )
    return {
        "exceedances": int(x),
        "kupiec": [kupiec, stats.chi2.sf(kupiec, 1)],
        "independence": [independence, stats.chi2.sf(independence, 1)],
        "conditional": [conditional, stats.chi2.sf(conditional, 2)],
    }


def deflated():
    """Bailey and Lopez de Prado (2014): Sharpe 2.5 a year, 1,250 days, skewness -3, kurtosis 10, variance 1/2 a year."""
    out = []
    sr, n, g3, g4, v = 2.5 / math.sqrt(250), 1250, -3, 10, 0.5 / 250
    for trials in (46, 88, 100, 1000, 10000):
        benchmark = math.sqrt(v) * (
            (1 - np.euler_gamma) * stats.norm.ppf(1 - 1 / trials)
            + np.euler_gamma * stats.norm.ppf(1 - 1 / (trials * math.e))
        )
        radicand = 1 - g3 * sr + (g4 - 1) / 4 * sr * sr
        out.append([trials, benchmark, stats.norm.cdf((sr - benchmark) * math.sqrt(n - 1) / math.sqrt(radicand))])
    return out


def overfitting(matrix, blocks):
    """Combinatorially symmetric cross-validation, written plainly from the paper."""
    parts = np.array_split(matrix[: len(matrix) // blocks * blocks], blocks)
    logits, slope = [], []
    sharpe = lambda x: x.mean(axis=0) / x.std(axis=0, ddof=1)
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        inside = np.vstack([parts[i] for i in chosen])
        outside = np.vstack([parts[i] for i in range(blocks) if i not in chosen])
        a, b = sharpe(inside), sharpe(outside)
        best = a.argmax()
        rank = stats.rankdata(b)[best] / (len(b) + 1)
        logits.append(math.log(rank / (1 - rank)))
        slope.append((a[best], b[best]))
    a, b = np.array(slope).T
    return {
        "probability": float(np.mean(np.array(logits) <= 0)),
        "median_logit": float(np.median(logits)),
        "slope": stats.linregress(a, b).slope,
        "loss": float(np.mean(b < 0)),
    }


def factors(y, x):
    lags = int(4 * (len(y) / 100) ** (2 / 9))
    fit = sm.OLS(y, sm.add_constant(x)).fit()
    robust = fit.get_robustcov_results("HAC", maxlags=lags, use_t=True)
    rolling = RollingOLS(y, sm.add_constant(x), window=60).fit().params
    return {
        "coefficients": robust.params,
        "errors": robust.bse,
        "p_values": robust.pvalues,
        "r_squared": fit.rsquared,
        "adjusted": fit.rsquared_adj,
        "plain_errors": fit.bse,
        "rolling_last": rolling[-1],
        "rolling_first": rolling[59],
    }


def pair(y, x):
    test = coint(y, x)
    fit = sm.OLS(y, sm.add_constant(x)).fit()
    lag = adfuller(fit.resid, regression="n", autolag="AIC")[2]
    spread = fit.resid
    ar = sm.OLS(np.diff(spread), sm.add_constant(spread[:-1])).fit()
    return {
        "statistic": test[0],
        "p_value": test[1],
        "critical": test[2],
        "hedge_ratio": fit.params[1],
        "intercept": fit.params[0],
        "lags": lag,
        "half_life": -math.log(2) / math.log1p(ar.params[1]),
    }


def johansen(levels, lags):
    test = coint_johansen(levels, 0, lags)
    return {
        "eigenvalues": test.eig,
        "weights": test.evec[:, 0] / test.evec[0, 0],
        "trace": test.lr1,
        "trace_critical": test.cvt,
        "max_eigen": test.lr2,
        "max_eigen_critical": test.cvm,
    }


def regimes(r):
    model = MarkovRegression(r, k_regimes=2, trend="c", switching_variance=True)
    fit = max((model.fit(search_reps=20, em_iter=20) for _ in range(2)), key=lambda f: f.llf)
    p = dict(zip(model.param_names, fit.params))
    order = np.argsort([p["sigma2[0]"], p["sigma2[1]"]])
    # Column-stochastic there: [to, from].
    transition = fit.regime_transition[:, :, 0].T[np.ix_(order, order)]
    # Theirs starts with the shares of time that the transition leads to.
    share = transition[1, 0] / (transition[0, 1] + transition[1, 0])
    filtered = model.filter(fit.params)
    return {
        "means": [p[f"const[{i}]"] for i in order],
        "variances": [p[f"sigma2[{i}]"] for i in order],
        "transition": transition,
        "log_likelihood": fit.llf,
        "start": [share, 1 - share],
        "filtered_last": filtered.filtered_marginal_probabilities[-1][order],
        "filtered_100": filtered.filtered_marginal_probabilities[100][order],
    }


def superior(rng):
    """Hansen's test: the benchmark loses 0; models' losses are their negative returns."""
    models = rng.normal(0.0, 0.01, (300, 8))
    models[:, 3] += 0.0009
    spa = SPA(np.zeros(300), -models, block_size=5, reps=5000, bootstrap="stationary", studentize=True, seed=3)
    spa.compute()
    return {"models": models.T, "p_values": list(spa.pvalues), "block": 5}


def main():
    rng = np.random.default_rng(20140101)
    r1, r2 = published(), np.round(fat_tailed(rng), 9)
    out = {"series": {}, "deflated": deflated()}
    for name, r in (("published", r1), ("fat_tailed", r2)):
        blocks = optimal_block_length(r)
        lags = int(4 * (len(r) / 100) ** (2 / 9))
        mean = sm.OLS(r, np.ones(len(r))).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
        out["series"][name] = {
            "returns": r,
            "performance": performance(r, 365),
            "sharpe": sharpe_figures(r),
            "tail_95": tail(r, 0.95),
            "tail_99": tail(r, 0.99),
            "var_backtest": var_backtest(r, 0.95),
            "block": [blocks.iloc[0]["stationary"], blocks.iloc[0]["circular"]],
            "newey_west": [lags, mean.bse[0], mean.tvalues[0]],
        }
    noise = np.round(rng.normal(0, 0.01, (240, 12)), 9)
    planted = noise.copy()
    planted[:, 4] += 0.0015
    out["overfitting"] = {
        "noise": noise.T,
        "of_noise": overfitting(noise, 8),
        "of_planted": overfitting(planted, 8),
        "plant": [4, 0.0015],
    }
    common = rng.normal(0, 0.01, 300)
    assets = np.round(np.column_stack([common * b + rng.standard_t(4, 300) * 0.006 for b in (1, 0.8, 0.5, -0.4, 0)]), 9)
    covariance, shrinkage = ledoit_wolf(assets)
    pearson = stats.pearsonr(assets[:, 0], assets[:, 1])
    interval = pearson.confidence_interval(0.95)
    out["correlation"] = {
        "assets": assets.T,
        "pearson": np.corrcoef(assets.T),
        "spearman": stats.spearmanr(assets).statistic,
        "pearson_interval_01": [interval.low, interval.high],
        "pearson_p_01": pearson.pvalue,
        "ledoit_wolf": covariance,
        "shrinkage": shrinkage,
    }
    factor_returns = assets[:, :2]
    y = np.round(0.0004 + factor_returns @ [0.7, -0.3] + rng.normal(0, 0.004, 300), 9)
    out["factors"] = {"y": y, "x": factor_returns.T, "fit": factors(y, factor_returns)}
    r = np.round(two_regimes(rng), 9)
    out["regimes"] = {"returns": r, "fit": regimes(r)}
    walk = np.round(np.cumsum(rng.normal(0, 0.01, (400, 2)), axis=0), 9)
    shared = np.cumsum(rng.normal(0, 0.01, 400))
    tied = np.round(
        np.column_stack([shared + rng.normal(0, 0.01, 400), 0.5 * shared + rng.normal(0, 0.01, 400), walk[:, 0]]), 9
    )
    out["pairs"] = {
        "walk": walk.T,
        "tied": tied.T,
        "walk_xy": pair(walk[:, 0], walk[:, 1]),
        "tied_xy": pair(tied[:, 0], tied[:, 1]),
        "tied_yx": pair(tied[:, 1], tied[:, 0]),
        "johansen_walk": johansen(walk, 1),
        "johansen_tied": johansen(tied, 2),
    }
    out["superior"] = superior(rng)
    if "DAILY" in os.environ:
        load = lambda name: pd.read_csv(Path(os.environ["DAILY"]) / name, index_col=0).iloc[:, 0]
        both = pd.concat([load("brent_daily.csv.gz"), load("wti_daily.csv.gz")], axis=1, join="inner").dropna()
        both = both[(both > 0).all(axis=1)].values[::5]
        (HERE / "oil.json").write_text(json.dumps({"brent": list(both[:, 0]), "wti": list(both[:, 1])}) + "\n")
    oil = json.loads((HERE / "oil.json").read_text())
    brent, wti = np.log(oil["brent"]), np.log(oil["wti"])
    out["oil"] = {
        "brent_on_wti": pair(brent, wti),
        "wti_on_brent": pair(wti, brent),
        "johansen": johansen(np.column_stack([brent, wti]), 1),
    }
    plain = lambda value: value.tolist() if hasattr(value, "tolist") else float(value)
    (HERE / "golden.json").write_text(json.dumps(out, default=plain) + "\n")


if __name__ == "__main__":
    main()

"""What Jesse itself says: one direct call of jesse.research in a fresh interpreter.

usage: reference.py PROJECT REQUEST.json; prints {"metrics": ..., "trades": ...} of a backtest, or, if the request holds
`significance_test` (its arguments), what rule_significance_test answers. The request holds `config`, `routes`, `data_routes`,
`series` ({exchange, symbol, file}), `warmup_start_ms`, `start_ms`, `finish_ms`, `hyperparameters`, `fast_mode`.
"""
import contextlib
import json
import os
import sys
import tempfile

project, request = sys.argv[1:]
with open(request) as file:
    request = json.load(file)
scratch = tempfile.TemporaryDirectory()
folder = scratch.name
for name in os.listdir(project):
    os.symlink(os.path.join(project, name), os.path.join(folder, name))
os.chdir(folder)
sys.path.insert(0, folder)

import jesse.helpers as helpers

helpers.is_jesse_project = lambda: False

import numpy
from jesse.research import backtest, rule_significance_test


def candles(begin, end):
    parts = {}
    for series in request["series"]:
        rows = numpy.load(series["file"])
        rows = rows[(rows[:, 0] >= begin) & (rows[:, 0] < end)]
        key = f"{series['exchange']}-{series['symbol']}"
        parts[key] = {"exchange": series["exchange"], "symbol": series["symbol"], "candles": rows}
    return parts


def plain(value):
    return value.item() if hasattr(value, "item") else str(value)


arguments = (
    request["config"],
    request["routes"],
    request["data_routes"],
    candles(request["start_ms"], request["finish_ms"]),
    candles(request["warmup_start_ms"], request["start_ms"]),
)
hyperparameters = request["hyperparameters"]
if "significance_test" in request:
    with contextlib.redirect_stdout(sys.stderr):  # it says that it starts
        result = rule_significance_test(*arguments, hyperparameters=hyperparameters, **request["significance_test"])
    print(json.dumps({**result, "simulated_means": result["simulated_means"].tolist()}, default=plain))
    sys.exit()

result = backtest(*arguments, generate_equity_curve=True, hyperparameters=hyperparameters, fast_mode=request["fast_mode"])


def finite(value):
    return None if isinstance(value, float) and value - value != 0.0 else value


metrics = {name: finite(plain(value) if hasattr(value, "item") else value) for name, value in result["metrics"].items()}
print(json.dumps({"metrics": metrics, "trades": len(result.get("trades") or [])}, default=plain))

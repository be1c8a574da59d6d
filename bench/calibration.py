"""Whether intervals and tests of `crates/risk` err as often as they say, on simulated data whose truth is known.

usage: calibration.py RISK_BENCH [--runs N] [--replications N]

coverage: of 95 % bootstrap intervals of mean and Sharpe ratio, beside arch's on the very same draws, n = 500;
rejections: of true forecasts of value at risk by Kupiec's and Christoffersen's tests at 5 %;
deflated Sharpe ratio: above 0.95 for the best of 1,000 trials of noise, and for a true edge among 100 trials;
overfitting: its probability among trials of noise, and with one that has an edge.
Draws are seeded, so that two runs of one version find the same. Prints a table and ends with 1 when a bar is missed. Bounded: about ten
minutes on two cores with the usual 2,000 runs.
"""
import argparse
import contextlib
import os
import sys

import numpy as np

from answering import Answering, libraries, machine, peers

N, SHARPE, CONFIDENCE = 500, 0.1, 0.95
YEARS, DAYS, EDGE = 3, 3 * 365, 3.0
# Runs of one request to a library: so small that both processes end at about the same time.
BATCH = 50
# Bars.
POINTS, REJECTED, NOISE_ABOVE, EDGE_ABOVE, NOISE_PBO, EDGE_PBO = 0.015, (0.03, 0.07), 0.05, 0.8, (0.4, 0.6), 0.1

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
arguments.add_argument("--runs", type=int, default=2_000)
arguments.add_argument("--replications", type=int, default=1_000)
arguments = arguments.parse_args()
binary, runs = os.path.abspath(arguments.binary), arguments.runs
rows, missed = [], []


def row(what, ours, bar, holds, beside=""):
    rows.append(f"| {what} | {ours} | {beside} | {bar} |")
    print(f"calibration.py: {what}: {ours}{f' ({beside})' if beside else ''}", file=sys.stderr, flush=True)
    if not holds:
        missed.append(f"{what}: {ours}, wanted {bar}")


def independent(rng):
    return rng.standard_normal((runs, N))


def autoregressive(rng):
    """AR(1) with 0.3, from its stationary distribution, with variance 1."""
    out = rng.standard_normal((runs, N))
    for step in range(1, N):
        out[:, step] = 0.3 * out[:, step - 1] + np.sqrt(1 - 0.3**2) * out[:, step]
    return out


def fat_tailed(rng):
    """Student's t with 4 degrees of freedom, with variance 1."""
    return rng.standard_t(4, (runs, N)) / np.sqrt(2)


def covered(found, mean, sharpe):
    """Shares of the intervals that hold the truth."""
    truths = {"mean": mean, "sharpe": sharpe}
    return {name: sum(one[name][0] <= truth <= one[name][1] for one in found) / len(found) for name, truth in truths.items()}


def asked(processes, draws):
    """Intervals of all draws, in batches on the processes by turns; the answers are in the order of the draws."""
    parts = [draws[first:first + BATCH] for first in range(0, len(draws), BATCH)]
    found = []
    for turn in range(0, len(parts), len(processes)):
        together = list(zip(processes, range(turn, len(parts))))
        for process, part in together:
            process.send("intervals", draws=parts[part].tolist(), replications=arguments.replications, seed=part * BATCH)
        for process, _ in together:
            found += process.receive()["intervals"]
    return found


def coverage(ours, theirs):
    for number, (name, draw) in enumerate((("independent normal", independent), ("AR(1) 0.3", autoregressive),
                                           ("Student t, 4 degrees", fat_tailed))):
        draws = (SHARPE + draw(np.random.default_rng(number))) * 0.01
        truth = SHARPE * 0.01, SHARPE
        our, their = covered(asked([ours], draws), *truth), covered(asked(theirs, draws), *truth)
        for figure, title in (("mean", "mean"), ("sharpe", "Sharpe ratio")):
            row(f"95 % interval of the {title}, {name}: covers", f"{our[figure]:.1%}", "within 1.5 points of arch's",
                abs(our[figure] - their[figure]) <= POINTS, f"arch {their[figure]:.1%}")


def rejections(ours):
    # The quantile of the standard normal distribution at 95 %.
    found = ours.ask("forecasts", runs=runs * 5, periods=1_000, confidence=CONFIDENCE, quantile=1.6448536269514722, seed=1)
    for test, title in (("kupiec", "Kupiec"), ("independence", "Christoffersen, independence"),
                        ("conditional", "Christoffersen, conditional coverage")):
        beside = f"by the chi-squared approximation {found['independence_approximated']:.1%}" if test == "independence" else ""
        row(f"{title}: rejects 1,000 true forecasts at 5 % in", f"{found[test]:.1%}", "3 to 7 %",
            REJECTED[0] <= found[test] <= REJECTED[1], beside)


def deflated(ours):
    noise = ours.ask("deflated", runs=runs, trials=1_000, days=DAYS, edge=0.0, seed=2)
    row(f"best of 1,000 trials of noise, {YEARS} years: deflated Sharpe ratio above 0.95 in", f"{noise['above']:.1%}", "at most 5 %",
        noise["above"] <= NOISE_ABOVE, f"annual Sharpe ratio of the best {noise['mean_best_sharpe']:.2f}")
    edge = ours.ask("deflated", runs=runs, trials=100, days=DAYS, edge=EDGE, seed=3)
    row(f"true annual Sharpe ratio of {EDGE:.0f} among 100 trials: deflated above 0.95 in", f"{edge['above']:.1%}", "at least 80 %",
        edge["above"] >= EDGE_ABOVE)


def overfitting(ours):
    noise = ours.ask("overfitting", runs=runs, trials=20, days=DAYS, blocks=16, edge=0.0, seed=4)["mean"]
    row("probability of overfitting, 20 trials of noise, 16 blocks", f"{noise:.3f}", "0.4 to 0.6", NOISE_PBO[0] <= noise <= NOISE_PBO[1])
    edge = ours.ask("overfitting", runs=runs, trials=20, days=DAYS, blocks=16, edge=EDGE, seed=5)["mean"]
    row(f"the same with one of annual Sharpe ratio {EDGE:.0f}", f"{edge:.3f}", "at most 0.1", edge <= EDGE_PBO)


with contextlib.ExitStack() as stack:
    ours = Answering(stack, binary)
    python = libraries(binary)
    theirs = [peers(stack, python) for _ in range(os.cpu_count())]
    rejections(ours)
    overfitting(ours)
    deflated(ours)
    coverage(ours, theirs)
    versions = ", ".join(f"{name} {version}" for name, version in theirs[0].ask("versions").items())
    print(f"`bench/calibration.py {os.path.basename(binary)} --runs {runs}` on {machine()}; {versions}.\n")
print("| simulated | found | beside | bar |\n|---|---|---|---|\n" + "\n".join(rows))
if missed:
    print("\nMissed:\n" + "\n".join(f"- {text}" for text in missed))
sys.exit(bool(missed))

"""One strategy on two routes: the first is the symbol that is explained, the second the one that explains it."""
import numpy as np
from jesse import utils
from jesse.strategies import Strategy


class PairSpread(Strategy):
    """Trades the spread of two symbols: in when it is far from its mean, out when it is near again or too far."""

    def hyperparameters(self):
        return [
            {"name": "hedge_ratio", "type": float, "min": -100.0, "max": 100.0, "default": 1.0},
            {"name": "window", "type": int, "min": 10, "max": 5000, "default": 60},
            {"name": "entry_z", "type": float, "min": 0.1, "max": 100.0, "default": 2.0},
            {"name": "exit_z", "type": float, "min": 0.0, "max": 100.0, "default": 0.5},
            {"name": "stop_z", "type": float, "min": 0.1, "max": 100.0, "default": 4.0},
        ]

    def before(self):
        # Jesse runs the routes one after the other: the first decides for both, on what both have when the bar has closed.
        if self.current_route_index == 0:
            self._decide()

    def should_long(self):
        return self._leg() > 0

    def should_short(self):
        return self._leg() < 0

    def go_long(self):
        self.buy = self._qty(), self.price

    def go_short(self):
        self.sell = self._qty(), self.price

    def update_position(self):
        if self._leg() == 0:
            self.liquidate()

    def _decide(self):
        pair = self.shared_vars
        # The fee of the first leg is paid before the second is sized.
        pair["capital"] = self.balance
        z = self._z_score()
        if z is None or self.balance <= 0:
            return
        side = pair.get("side", 0)
        distance = -side * z
        if side == 0:
            self._enter(pair, z)
        elif distance >= self.hp["stop_z"]:
            pair.update(side=0, stopped=True)
        elif distance <= self.hp["exit_z"]:
            pair.update(side=0)

    def _enter(self, pair, z):
        if pair.get("stopped"):
            # What was stopped is not entered again before it has come back.
            pair["stopped"] = abs(z) > self.hp["exit_z"]
        elif self.hp["entry_z"] <= abs(z) < self.hp["stop_z"]:
            pair["side"] = -1 if z > 0 else 1

    def _z_score(self):
        """Of the log prices' spread, by the mean and the deviation of the bars before this one."""
        bars = self.hp["window"] + 1
        first, second = (
            np.log(self.get_candles(route.exchange, route.symbol, route.timeframe)[-bars:, 2]) for route in self.routes
        )
        if min(len(first), len(second)) < bars:
            return None
        spread = first - self.hp["hedge_ratio"] * second
        past = spread[:-1]
        deviation = past.std(ddof=1)
        return (spread[-1] - past.mean()) / deviation if deviation > 1e-12 else None

    def _leg(self):
        """1 to be long, -1 to be short, 0 to be out."""
        side = self.shared_vars.get("side", 0)
        opposite = self.current_route_index == 1 and self.hp["hedge_ratio"] > 0
        return -side if opposite else side

    def _qty(self):
        """Both legs together have the size of the balance, and of log prices the hedge ratio is one of values."""
        ratio = abs(self.hp["hedge_ratio"])
        share = (1.0 if self.current_route_index == 0 else ratio) / (1.0 + ratio)
        return utils.size_to_qty(share * self.shared_vars["capital"], self.price, precision=8, fee_rate=self.fee_rate)

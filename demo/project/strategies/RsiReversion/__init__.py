"""Mean reversion: buys after a sharp fall, and sells at a target or at a stop."""
import jesse.indicators as ta
from jesse import utils
from jesse.strategies import Strategy


class RsiReversion(Strategy):
    """Buys when the RSI says oversold; stop and target are multiples of the average true range."""

    def hyperparameters(self):
        return [
            {"name": "oversold", "type": int, "min": 10, "max": 40, "default": 25},
            {"name": "stop_atr", "type": float, "min": 1.0, "max": 5.0, "default": 2.5},
        ]

    def should_long(self):
        return ta.rsi(self.candles, 14) < self.hp["oversold"]

    def go_long(self):
        entry = self.price
        stop = entry - self.hp["stop_atr"] * ta.atr(self.candles, 14)
        # A stop costs 2 % of the balance, whatever its distance.
        quantity = utils.risk_to_qty(self.available_margin, 2, entry, stop, fee_rate=self.fee_rate)
        self.buy = quantity, entry

    def on_open_position(self, order):
        distance = self.hp["stop_atr"] * ta.atr(self.candles, 14)
        self.stop_loss = self.position.qty, self.position.entry_price - distance
        self.take_profit = self.position.qty, self.position.entry_price + 1.5 * distance

    def should_cancel_entry(self):
        return True

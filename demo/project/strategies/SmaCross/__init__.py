"""Moving-average crossover: long while the fast average is above the slow one, short while it is below."""
import jesse.indicators as ta
from jesse import utils
from jesse.strategies import Strategy, cached


class SmaCross(Strategy):
    """Moving-average crossover, always in the market once the averages have crossed."""

    def hyperparameters(self):
        return [
            {"name": "fast", "type": int, "min": 5, "max": 60, "default": 20},
            {"name": "slow", "type": int, "min": 40, "max": 240, "default": 100},
        ]

    @property
    @cached
    def trend(self):
        """Above zero when prices have risen lately."""
        return ta.sma(self.candles, self.hp["fast"]) - ta.sma(self.candles, self.hp["slow"])

    def should_long(self):
        return self.trend > 0

    def should_short(self):
        return self.trend < 0

    def go_long(self):
        self.buy = self.half_of_the_balance(), self.price

    def go_short(self):
        self.sell = self.half_of_the_balance(), self.price

    def should_cancel_entry(self):
        return True

    def update_position(self):
        if self.is_long and self.trend < 0 or self.is_short and self.trend > 0:
            self.liquidate()

    def half_of_the_balance(self):
        return utils.size_to_qty(self.balance / 2, self.price, fee_rate=self.fee_rate)

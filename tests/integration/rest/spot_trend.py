"""Long only, with its exits where a spot market takes them."""
import jesse.indicators as ta
from jesse import utils
from jesse.strategies import Strategy


class SpotTrend(Strategy):
    def should_long(self):
        return ta.sma(self.candles, 10) > ta.sma(self.candles, 30)

    def should_cancel_entry(self):
        return True

    def go_long(self):
        self.buy = utils.size_to_qty(self.balance * 0.5, self.price, fee_rate=self.fee_rate), self.price

    def on_open_position(self, order):
        self.stop_loss = self.position.qty, self.price * 0.98

    def update_position(self):
        if ta.sma(self.candles, 10) < ta.sma(self.candles, 30):
            self.liquidate()

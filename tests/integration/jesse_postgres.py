"""What Jesse itself does with its Postgres; run in a Jesse project whose .env names the database. Writes the candles on standard
input, then prints what Jesse reads of a series."""
import json
import sys
import uuid

from jesse.models.Candle import Candle  # makes the table, as Jesse does

COLUMNS = ("timestamp", "open", "close", "high", "low", "volume")

order = json.load(sys.stdin)
rows = [
    {"id": uuid.uuid4(), **series, **dict(zip(COLUMNS, candle))}
    for series, candles in order["write"]
    for candle in candles
]
for start in range(0, len(rows), 2000):
    Candle.insert_many(rows[start : start + 2000]).execute()

read = order["read"]
chosen = Candle.select(*(getattr(Candle, column) for column in COLUMNS)).where(
    Candle.exchange == read["exchange"], Candle.symbol == read["symbol"], Candle.timeframe == "1m"
)
json.dump(list(chosen.order_by(Candle.timestamp.asc()).tuples()), sys.stdout)

"""`python -m runner.exchange`: 1-minute candles from an exchange, through the driver that Jesse has for it.

Reads one JSON object from standard input: `exchange` and `symbol` as Jesse spells them, `ranges` (a list of [from, to) in
milliseconds), `attempts` (how often a request is tried), and `url` (in place of the scheme and host of the exchange, or null).
Writes JSON lines to standard output: `{"range": index, "candles": [[time, open, close, high, low, volume], ...]}` for each
page, `{"range": index, "done": true}` after each range, `{"end": true}` at last; or `{"error": code, "message": text}` and
nothing more. Nothing is filled, sorted or repaired here.
"""
import json
import os
import random
import re
import signal
import sys
import time
from urllib.parse import urlsplit, urlunsplit

from runner import engine, limits

_MINUTE_MS = 60_000
_PAGE = 500  # where a driver does not say
_REQUEST_TIMEOUT_S = 30
_LONGEST_WAIT_S = 120
_ASKED_WAIT = re.compile(r"asks to wait (\d+(?:\.\d+)?) seconds")
# The drivers hand on the status in their texts alone. Of these only 418 and 429 get better with time.
_FINAL_STATUS = re.compile(r"(?:ERROR:? |HTTP )4(?!18|29)\d\d\b")
_RATE = re.compile(r"\b(?:418|429)\b|rate limit", re.IGNORECASE)
_LONGEST_MESSAGE = 500


class Failed(Exception):
    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


def redirect(url: str | None) -> None:
    """Send all requests of the drivers to this scheme and host, let none of them wait without end, and leave trying again to
    us: some drivers do that by themselves, out of sight and for as long as the exchange says."""
    import requests
    from urllib3.util.retry import Retry

    base = urlsplit(url) if url else None
    original = requests.Session.request

    def request(self, method, address, *args, **options):
        if base:
            asked = urlsplit(address)
            address = urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + asked.path, asked.query, ""))
        if options.get("timeout") is None:
            options["timeout"] = _REQUEST_TIMEOUT_S
        for adapter in self.adapters.values():
            adapter.max_retries = Retry(0, read=False)
        return original(self, method, address, *args, **options)

    requests.Session.request = request


def driver_of(exchange: str):
    from jesse.modes.import_candles_mode.drivers import drivers

    if exchange not in drivers:
        raise Failed("unknown_exchange", f"Jesse has no driver for {exchange!r}; it has: {', '.join(sorted(drivers))}")
    return drivers[exchange]()


def retrying(attempts: int, ask):
    """Ask until it is answered. What the exchange refuses for good fails at once, and the rest after so many attempts."""
    for attempt in range(1, attempts + 1):
        try:
            return ask()
        except Exception as error:
            code, passing = judge(error)
            message = str(error)[:_LONGEST_MESSAGE] or type(error).__name__
            if not passing:
                raise Failed(code, message) from error
            asked = _ASKED_WAIT.search(message)
            wait = float(asked.group(1)) if asked else 2.0 ** (attempt - 1)
            if wait > _LONGEST_WAIT_S:
                if asked:
                    raise Failed(code, message) from error
                wait = _LONGEST_WAIT_S
            if attempt == attempts:
                tried = "once" if attempts == 1 else f"{attempts} times"
                raise Failed(code, f"{message} (tried {tried})") from error
            time.sleep(wait + random.uniform(0, 0.25 + wait / 4))


def judge(error: Exception) -> tuple[str, bool]:
    """What this failure is called, and whether it may pass."""
    import requests
    from jesse.services.historical_data import errors

    message = str(error)
    if isinstance(error, errors.ProviderSymbolNotFoundError):
        return "unknown_symbol", False
    passing = isinstance(error, requests.exceptions.RequestException) or getattr(error, "retryable", False)
    if passing and not _FINAL_STATUS.search(message):
        return ("rate_limited" if _RATE.search(message) else "unavailable"), True
    if isinstance(error, (errors.ProviderSchemaError, errors.HistoricalCandleValidationError)):
        return "bad_answer", False
    return "refused", False


def pages(driver, symbol: str, start: int, finish: int, attempts: int):
    """The candles of a range, a page at a time."""
    from jesse.services.historical_data import HistoricalCandleRange, HistoricalCandleRequest

    most = driver.capabilities.max_candles_per_request or _PAGE
    while start < finish:
        end = min(finish, start + most * _MINUTE_MS)
        request = HistoricalCandleRequest(symbol=symbol, timeframe="1m", requested_range=HistoricalCandleRange(start, end))
        batch = retrying(attempts, lambda: driver.fetch_candles(request))  # noqa: B023, called at once
        yield [[row.timestamp, row.open, row.close, row.high, row.low, row.volume] for row in batch.candles]
        start = max(end, batch.next_available_timestamp or 0)
        time.sleep(driver.capabilities.request_delay_seconds)


def first_listed(driver, symbol: str, start: int, finish: int, attempts: int) -> int:
    """From when on the exchange has candles, so that the years before are not asked for page by page."""
    from jesse.services.historical_data import HistoricalCandleRange, HistoricalCandleRequest

    request = HistoricalCandleRequest(symbol=symbol, timeframe="1m", requested_range=HistoricalCandleRange(start, finish))
    found = retrying(attempts, lambda: driver.find_earliest_available_timestamp(request))
    # Rounded up: a time within a minute is not one of a candle.
    return finish if found is None else -(-found // _MINUTE_MS) * _MINUTE_MS


def follow(wanted: dict, say) -> None:
    redirect(wanted["url"])
    driver = driver_of(wanted["exchange"])
    symbol, ranges, attempts = wanted["symbol"], wanted["ranges"], wanted["attempts"]
    listed = first_listed(driver, symbol, min(a for a, _ in ranges), max(b for _, b in ranges), attempts)
    for index, (start, finish) in enumerate(ranges):
        for candles in pages(driver, symbol, max(start, listed), finish, attempts):
            say({"range": index, "candles": candles})
        say({"range": index, "done": True})
    say({"end": True})


def main() -> None:
    limits.end_with_parent(signal.SIGTERM)
    engine.settle_environment()
    # What Jesse or a driver prints is for people; the lines of the protocol have a descriptor of their own.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict) -> None:
        lines.write(json.dumps(message, allow_nan=False) + "\n")
        lines.flush()

    wanted = json.loads(sys.stdin.readline())
    try:
        engine.import_jesse()
        follow(wanted, say)
    except Failed as error:
        say({"error": error.code, "message": str(error)})


if __name__ == "__main__":
    main()

"""Runs Jesse backtests in forked children of one warm interpreter.

Importing Jesse takes seconds, a one-month backtest a fraction of one. The runner imports Jesse once, and forks a child for
each task it is asked for over a Unix socket: a task starts in milliseconds, yet has a process, limits and modules of its own.
"""

ENGINE = "runner/1"

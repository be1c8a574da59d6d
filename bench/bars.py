"""Tables of figures, and the bars that they are held against."""
import sys

_missed = []


def bar(holds, text):
    """Notes that a bar is missed."""
    if not holds:
        _missed.append(text)


def table(head, rows):
    """Prints rows of texts."""
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def close():
    """Ends the program: with 1, and the list, when a bar is missed."""
    if _missed:
        print("\nMissed:\n" + "\n".join(f"- {text}" for text in _missed))
    sys.exit(bool(_missed))

"""Which known name somebody meant who wrote another one. The only place that suggests a name."""

from __future__ import annotations

from collections.abc import Iterable


def distance(one: str, other: str, limit: int) -> int:
    """Return how many letters were added, left out, replaced or swapped with their neighbour; limit + 1 stands for any
    number above limit.
    """
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        now = [row]
        for column, against in enumerate(other, 1):
            cost = min(last[column] + 1, now[-1] + 1, last[column - 1] + (letter != against))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == against:
                cost = min(cost, before[column - 2] + 1)
            now.append(cost)
        # A row is made from the two before it, and gets no smaller than them.
        if min(now) > limit and min(last) >= limit:
            return limit + 1
        before, last = last, now
    return min(last[-1], limit + 1)


def differing(one: str, other: str) -> tuple[str, str]:
    """Return both names without their common first words and, where there are such words, without their common last
    words.

    Neither airflow_ nor _password makes two variables alike.
    """
    words, others = one.split("_"), other.split("_")
    for end in (0, -1) if words[0] == others[0] else ():
        while len(words) > 1 and len(others) > 1 and words[end] == others[end]:
            del words[end], others[end]
    return "_".join(words), "_".join(others)


def nearest(name: object, known: Iterable[object], share: int = 3) -> str:
    """Return the known name that differs in at most one letter of so many, or nothing."""
    found = []
    for candidate in known:
        one, other = differing(str(name).lower(), str(candidate).lower())
        limit = max(len(one), len(other)) // share
        wrong = distance(one, other, limit)
        if wrong <= limit:
            found.append((wrong, str(candidate)))
    return min(found)[1] if found else ""


def did_you_mean(name: object, known: Iterable[object], share: int = 3) -> str:
    """Return a sentence with the name that was meant, which follows another sentence; nothing if no name is near."""
    near = nearest(name, known, share)
    return " Did you mean {0}?".format(near) if near else ""

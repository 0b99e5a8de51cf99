"""Dates as people write them, to be turned into ISO 8601: the classic small task for attention.

Six ways of writing are mixed; all name a day from 1950 to 2049, so a year of two digits is not ambiguous.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

import numpy as np

from scratchgen.data.pairs import PairDataset, pair_dataset
from scratchgen.data.registry import dataset
from scratchgen.data.tokens import Tokenizer

# Written out because strftime's names follow the locale.
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)

FORMATS: tuple[Callable[[datetime.date], str], ...] = (
    lambda d: f"{d.day} {MONTHS[d.month - 1]} {d.year}",
    lambda d: f"{MONTHS[d.month - 1]} {d.day}, {d.year}",
    lambda d: f"{d.day:02}/{d.month:02}/{d.year}",
    lambda d: f"{WEEKDAYS[d.weekday()]} {d.day} {MONTHS[d.month - 1][:3]} {d.year}",
    lambda d: f"{MONTHS[d.month - 1][:3]} {d.day:02} {d.year % 100:02}",
    lambda d: f"{d.year}.{d.month}.{d.day}",
)

TRAIN, VALIDATION, TEST = 10_000, 1_000, 1_000


@dataset(
    "dates",
    kind="pairs",
    what="human dates in six formats -> ISO 8601, e.g. 'tuesday 3 mar 1987' -> '1987-03-03'",
    size=f"{TRAIN + VALIDATION:,} + {TEST:,}",
    shape="characters, up to 21 -> 10",
    source="generated; the task follows public attention tutorials",
    terms="generated",
)
def dates(seed: int = 0) -> PairDataset:
    """Date pairs. No day occurs twice, so a test date has never been seen in any format."""
    rng = np.random.default_rng(seed)
    days = rng.permutation((LAST - FIRST).days + 1)[: TRAIN + VALIDATION + TEST]
    formats = rng.integers(len(FORMATS), size=len(days))
    pairs = []
    for day, form in zip(days, formats):
        date = FIRST + datetime.timedelta(days=int(day))
        pairs.append((FORMATS[form](date), date.isoformat()))
    return pair_dataset(
        "dates",
        pairs[:TRAIN],
        pairs[TRAIN : TRAIN + VALIDATION],
        pairs[TRAIN + VALIDATION :],
        Tokenizer(" ,./0123456789abcdefghijklmnopqrstuvwxyz", "characters"),
        Tokenizer("-0123456789", "characters"),
    )


_YEAR_FIRST = re.compile(r"(?P<year>\d{4})[.-](?P<month>\d+)[.-](?P<day>\d+)")
_DAY_FIRST = re.compile(r"(?:[a-z]+day )?(?P<day>\d+)[ /](?P<month>[a-z]+|\d+)[ /](?P<year>\d{4})")
_MONTH_FIRST = re.compile(r"(?P<month>[a-z]+) (?P<day>\d+),? (?P<year>\d+)")


def fields(text: str) -> dict[str, range]:
    """Where the year, the month and the day stand in a date of any of these formats, or in ISO 8601."""
    for form in (_YEAR_FIRST, _DAY_FIRST, _MONTH_FIRST):
        if found := form.fullmatch(text):
            return {name: range(*found.span(name)) for name in ("year", "month", "day")}
    raise ValueError(f"not a date as this dataset writes them: {text!r}")

"""Libraries of the benchmark in the process that tests it."""

from __future__ import annotations

from benchmarks.worker import SETTINGS


class Local:
    """A contender in this process, which notes what it was asked."""

    def __init__(self, name: str, bench) -> None:
        self.setting, self.version, self.bench, self.asked = SETTINGS[name], bench.version(), bench, []

    def call(self, method, *arguments):
        self.asked.append(method)
        return getattr(self.bench, method)(*arguments)

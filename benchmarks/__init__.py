"""Benchmarks: ``python -m benchmarks NAME``. Only ratios taken in one run, interleaved, are ever printed."""

"""``scratchgen evaluate``: metrics, and what to hold them against."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from ..training import write_json
from .runs import REPORT, restore
from .tables import number, table


def evaluate(folder: Path, as_json: bool) -> int:
    """Compute the final metrics of a run, write ``report.json``, print it."""
    run, recipe, trainer = restore(folder)
    started = time.perf_counter()
    metrics = recipe.evaluate()
    report: dict[str, Any] = {
        "model": run.model,
        "preset": run.preset,
        "data": run.data,
        "seed": run.seed,
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "seconds_evaluation": round(time.perf_counter() - started, 1),
        "device": run.device,
        "versions": run.versions,
        "metrics": metrics,
        "baselines": recipe.baselines(),
        "reference": [dataclasses.asdict(reference) for reference in recipe.references()],
    }
    write_json(folder / REPORT, report)
    print(json.dumps(report, indent=2) if as_json else describe(report, recipe.config.steps))
    return 0


def describe(report: dict[str, Any], steps: int) -> str:
    """The report as tables: a row for each metric, a column for each baseline and reference."""
    metrics, baselines = report["metrics"], report["baselines"]
    unfinished = f" ({report['steps']} of {steps} steps: training is not finished)" if report["steps"] < steps else ""
    head = (
        f"{report['model']} on {report['data']}, preset {report['preset']}, seed {report['seed']}, "
        f"{report['device']}, {report['seconds']:.0f} s of training{unfinished}"
    )
    keys = [key for key in metrics if not key.endswith("_se")]
    keys += [key for values in baselines.values() for key in values if key not in metrics and not key.endswith("_se")]
    rows = []
    for key in dict.fromkeys(keys):
        error = metrics.get(f"{key}_se")
        ours = number(metrics.get(key)) + (f" ± {error:.2g}" if error is not None else "")
        rows.append([key, ours, *(number(values.get(key)) for values in baselines.values())])
    text = head + "\n\n" + table(["metric", "this run", *baselines], rows)
    for reference in report["reference"]:
        text += f"\n\nreference: {reference['metric']} {number(reference['value'])}, {reference['source']}"
    return text

"""A leg of a run: from where the last one stopped until the time is up or the run is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codetr.model import CoDino
from codetr.training.files import export_weights, whole_file
from codetr.training.log import curves, read_log, write_log
from codetr.training.trainer import Trainer

LOG_EVERY = 50
SAVE_EVERY = 1000
Evaluate = Callable[[CoDino], dict[str, float]]
"""From the averaged detector to figures for the log."""


def run_leg(
    trainer: Trainer,
    output: Path,
    *,
    seconds: float,
    classes: tuple[str, ...],
    metadata: dict[str, str],
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
) -> Path | None:
    """Train for ``seconds`` at most, counted from now, evaluations included.

    ``output`` gets ``checkpoint.pt``, ``log.jsonl`` and ``curves.svg``; a checkpoint that is there
    already is where the leg begins.

    Args:
        trainer: a fresh one.
        output: a folder that exists.
        seconds: after which no step is begun.
        classes: names for the exported weights.
        metadata: of the exported weights, beside what the run says.
        evaluate: called at the end of the run,
        evaluate_every: and every so many steps, a multiple of ``LOG_EVERY``; 0: only then.

    Returns:
        The exported weights once the run is done, else None.
    """
    started = time.monotonic()
    checkpoint, log = output / "checkpoint.pt", output / "log.jsonl"
    if checkpoint.exists():
        trainer.load(checkpoint)
    # A leg that was killed may have logged more than it saved.
    entries = [entry for entry in read_log(log) if entry["step"] <= trainer.step]
    before = trainer.seconds
    window = _Window()
    total = trainer.run.steps
    while trainer.step < total and time.monotonic() - started < seconds:
        window.add(*trainer.advance())
        trainer.seconds = before + time.monotonic() - started
        done = trainer.step == total
        if done or trainer.step % LOG_EVERY == 0:
            entry = {"step": trainer.step, "seconds": round(trainer.seconds, 1), **window.means()}
            entry["lr"] = trainer.optimizer.param_groups[0]["lr"]
            if evaluate and (done or (evaluate_every and trainer.step % evaluate_every == 0)):
                entry |= evaluate(averaged(trainer))
            entries.append(entry)
            write_log(log, entries)
            _show(entry, total)
            window = _Window()
        if trainer.step % SAVE_EVERY == 0:
            trainer.save(checkpoint)
    trainer.save(checkpoint)
    with whole_file(output / "curves.svg") as temporary:
        temporary.write_text(curves(entries))
    if trainer.step < total:
        return None
    weights = output / "weights.safetensors"
    about = {name: str(value) for name, value in vars(trainer.run).items()}
    export_weights(averaged(trainer), classes, weights, about | metadata)
    return weights


def averaged(trainer: Trainer) -> CoDino:
    """The detector with averaged weights, in evaluation mode."""
    detector: Any = trainer.average.module.eval()
    return detector


class _Window:
    """Means since the last line of the log."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._sums: dict[str, Tensor] = {}
        self._steps = self._pictures = 0

    def add(self, losses: dict[str, Tensor], pictures: int) -> None:
        for name, value in losses.items():  # stays on the device: reading it would wait
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._pictures += pictures

    def means(self) -> dict[str, Any]:
        """What the log says of these steps."""
        sums = torch.stack(list(self._sums.values())).tolist()
        means = {name: s / self._steps for name, s in zip(self._sums, sums, strict=True)}
        speed = self._pictures / (time.monotonic() - self._started)
        return {
            "loss": round(sum(means.values()), 4),
            "losses": {name: round(mean, 4) for name, mean in means.items()},
            "pictures_per_second": round(speed, 1),
        }


def _show(entry: dict[str, Any], total: int) -> None:
    """One line that replaces itself, on terminals only."""
    if sys.stderr.isatty():
        ap = f", AP {entry['ap']:.3f}\n" if "ap" in entry else ""
        print(
            f"\rstep {entry['step']}/{total}, loss {entry['loss']:.3f}, "
            f"{entry['pictures_per_second']:.0f} pictures/s{ap}",
            end="   ",
            file=sys.stderr,
            flush=True,
        )

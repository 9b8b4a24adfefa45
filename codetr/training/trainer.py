"""Steps of training, and their exact state."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel

from codetr.errors import UserError
from codetr.presets import PIXEL_MEAN, PIXEL_STD, CoDinoConfig
from codetr.training.denoising import make_noise
from codetr.training.files import whole_file
from codetr.training.losses import losses
from codetr.training.network import TrainedCoDino
from codetr.training.pictures import Batch
from codetr.training.plan import Step, learning_rate, plan_step
from codetr.training.targets import Targets

WEIGHT_DECAY = 1e-4
LARGEST_GRADIENT = 0.1
"""Norm of all gradients together that is clipped to."""
AVERAGE_DECAY = 0.999
"""Of the moving average of the weights; less in the first steps."""


class MakeBatch(Protocol):
    """``codetr.training.pictures.make_batch``."""

    def __call__(
        self,
        split: Any,
        *,
        seed: int,
        sizes: list[tuple[int, int]],
        padded: tuple[int, int],
        device: torch.device,
        resized: tuple[int, int] | None = None,
    ) -> Batch:
        """Make a picture for each (h, w) of ``sizes``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """What fixes a run's result, but for the machine's rounding."""

    steps: int
    batch: int
    seed: int


class Trainer:
    """A detector in training. Everything random in a step comes from the step's own seed."""

    def __init__(
        self, config: CoDinoConfig, run: Run, make_batch: MakeBatch, device: torch.device
    ) -> None:
        self.run, self.device = run, device
        self.step = 0
        """Steps done."""
        self.seconds = 0.0
        """Time spent on them, in all legs."""
        self.network = TrainedCoDino(config, run.seed).to(device)
        self.average = AveragedModel(self.network.detector, multi_avg_fn=_average)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), weight_decay=WEIGHT_DECAY, fused=device.type == "cuda"
        )
        self._make_batch = make_batch
        if device.type == "cuda":
            # Each step is thousands of small kernels, and casts and norms are most of their time.
            detector = self.network.detector
            for part in (detector.backbone, detector.neck, detector.encoder):
                part.compile(dynamic=False)
        # The next pictures are made while this step's are learnt from.
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._next: Future[Batch] | None = None
        self._mean = torch.tensor(PIXEL_MEAN, device=device)[:, None, None]
        self._std = torch.tensor(PIXEL_STD, device=device)[:, None, None]

    def advance(self) -> tuple[dict[str, Tensor], int]:
        """Do one step; its losses by name (see ``losses``) and its number of pictures."""
        batch = (self._next or self._request(self.step)).result()
        self._next = self._request(self.step + 1) if self.step + 1 < self.run.steps else None
        found = self.losses(batch, self.step)
        self.optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.run.steps)
        self.optimizer.step()
        self.average.update_parameters(self.network.detector)
        self.step += 1
        return {name: value.detach() for name, value in found.items()}, len(batch.images)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of a batch; ``step`` seeds the denoising."""
        targets = Targets.from_lists(batch.labels, batch.boxes, batch.masks)
        generator = torch.Generator(self.device).manual_seed(self._plan(step).seed)
        classes = self.network.detector.config.num_classes
        noise = make_noise(targets, classes, generator)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            outputs = self.network(self.normalise(batch), batch.masks, noise)
        return losses(outputs, targets)

    def normalise(self, batch: Batch) -> Tensor:
        """(B, 3, H, W) as the detector takes them: padding is zero after normalising."""
        normalised = (batch.images - self._mean) / self._std
        return normalised * (1 - batch.masks)[:, None]

    def save(self, path: Path) -> None:
        """Write everything that :meth:`load` needs to go on exactly."""
        state = {
            "run": asdict(self.run),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with whole_file(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on where ``save`` was called.

        Raises:
            UserError: the file belongs to another run.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["run"] != asdict(self.run):
            raise UserError(
                f"{path} is of a run with {_options(state['run'])}, not with "
                f"{_options(asdict(self.run))}; give those options, or another --output"
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._next = None

    def _plan(self, step: int) -> Step:
        return plan_step(step, seed=self.run.seed, batch=self.run.batch)

    def _request(self, step: int) -> Future[Batch]:
        plan = self._plan(step)
        return self._pool.submit(
            self._make_batch,
            "train",
            seed=plan.seed,
            sizes=plan.sizes,
            padded=plan.padded,
            resized=plan.resized,
            device=self.device,
        )


@torch.no_grad()
def _average(averaged: Any, current: Any, count: Tensor | int) -> None:
    decay = min(AVERAGE_DECAY, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_(averaged, current, 1 - decay)


def _options(run: dict[str, int]) -> str:
    return " ".join(f"--{name} {value}" for name, value in run.items())

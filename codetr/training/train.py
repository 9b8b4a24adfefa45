"""``python -m codetr.training.train``: the small detector of handwritten digits, from nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codetr.errors import UserError
from codetr.presets import PRESETS
from codetr.training.requirements import require

if TYPE_CHECKING:
    from codetr.model import CoDino

PRESET = "co_dino_digits"
NEEDED = ("torch", "safetensors", "scipy", "sklearn")
EXAMPLE = """\
example:
  python -m codetr.training.train --output runs/digits --minutes 9
  python -m codetr.training.train --output runs/digits --minutes 9   # goes on, until it is done

The folder gets checkpoint.pt after each leg, log.jsonl, curves.svg and, when all steps are done,
weights.safetensors for python -m onnx_export --preset co_dino_digits.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m codetr.training.train",
        description=f"Train the preset {PRESET} on pictures of digits made on the fly.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--output", required=True, type=Path, help="folder of the run; a run in it is gone on with")
    add("--minutes", type=float, default=float("inf"), help="stop after this long and save (never)")
    add("--steps", type=_positive, default=5400, help="steps of the whole run (5400)")
    add(
        "--batch",
        type=_positive,
        default=128,
        help="pictures at 320 x 320; other sizes have as many as hold the same pixels (128)",
    )
    add("--seed", type=int, default=0, help="of weights and pictures (0)")
    add("--device", default="cuda", help="where PyTorch computes (cuda)")
    add(
        "--evaluate-every",
        type=int,
        default=0,
        metavar="STEPS",
        help="COCO AP on 100 held-out pictures, a multiple of 50, and at the end; "
        "needs pycocotools (0: not at all)",
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 2 on a user's mistake, 130 if it was cancelled."""
    command_line = parser()
    args = command_line.parse_args(argv)
    try:
        print(_train(args), file=sys.stderr)
    except UserError as error:
        print(f"{command_line.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{command_line.prog}: cancelled; the last checkpoint stays", file=sys.stderr)
        return 130
    return 0


def _train(args: argparse.Namespace) -> str:
    """One leg; what to tell the user in the end."""
    require((*NEEDED, "pycocotools") if args.evaluate_every else NEEDED)
    import torch

    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("PyTorch sees no NVIDIA GPU; give --device cpu, which takes days")
    from codetr.training.digits import CLASSES
    from codetr.training.evaluation import average_precision, held_out_batches
    from codetr.training.leg import run_leg
    from codetr.training.pictures import make_batch
    from codetr.training.trainer import Run, Trainer

    torch.set_float32_matmul_precision("high")
    device = torch.device(args.device)
    args.output.mkdir(parents=True, exist_ok=True)
    run = Run(steps=args.steps, batch=args.batch, seed=args.seed)
    trainer = Trainer(PRESETS[PRESET], run, make_batch, device)
    evaluate = None
    if args.evaluate_every:
        batches = held_out_batches(make_batch, device)

        def evaluate(model: CoDino) -> dict[str, float]:
            return average_precision(model, batches, trainer.normalise)

    weights = run_leg(
        trainer,
        args.output,
        seconds=60 * args.minutes,
        classes=CLASSES,
        metadata={"preset": PRESET},
        evaluate=evaluate,
        evaluate_every=args.evaluate_every,
    )
    if weights is None:
        return f"{trainer.step} of {args.steps} steps done; the same command goes on"
    return f"done; wrote {weights} ({weights.stat().st_size / 1e6:.2f} MB)"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


if __name__ == "__main__":
    sys.exit(main())

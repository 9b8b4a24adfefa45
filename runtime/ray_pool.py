"""Pictures spread over a pool of Ray actors: one model each, on any number of GPUs and nodes."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import socket
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from runtime.backend import needs_gpu
from runtime.closing import Closing
from runtime.errors import UserError
from runtime.journal import Record
from runtime.parallel import batches
from runtime.postprocess import NmsMode
from runtime.ray_worker import BlockDetector, Job, raise_problem
from runtime.sizes import model_files

_Targets = dict[str, str | None]
"""Pictures, and where each is written with its detections drawn in."""

_BLOCK = {"GPU": 32, "CPU": 4}
"""Pictures that are given out, come back and are journalled together: some seconds of work."""
_BLOCKS_AT_ONCE = 2
"""Per actor: the GPU works for one while the other's first picture is read and its last written."""
_MOST_BLOCKS = 10_000
"""What Ray Data's scheduler handles without delay; with more pictures the blocks are larger."""
_RETRIES = 2
"""How often a block is done again after the actor that did it has died."""
_OBJECT_STORE = 128 * 2**20
"""Bytes of shared memory that a cluster of our own takes: only paths and JSON pass through it."""


class RayPool(Closing):
    """Detects in pictures like ``runtime.pipeline.detect_pictures``, on a Ray cluster.

    An actor that dies is replaced and its blocks are done again, so pictures may be written twice,
    each time whole; of the records only the first is taken.
    """

    def __init__(
        self, model: Path, *, nms: NmsMode, max_batch: int, actors: int | None = None
    ) -> None:
        """Connect to the cluster that RAY_ADDRESS names, or start one on this machine.

        Args:
            model: model file, or a folder of them, at this path on all nodes.
            nms: see ``runtime.postprocess.nms``.
            max_batch: see ``Detector``.
            actors: size of the pool; by default one for each GPU or, for a model that runs on the
                CPU, for each node.

        Raises:
            UserError: the model cannot be run, Ray is missing, there is no such cluster, or it has
                too few GPUs or CPUs.
        """
        self._kind = "GPU" if any(map(needs_gpu, model_files(model))) else "CPU"
        self._model, self._nms, self._max_batch = model, nms, max_batch
        self.classes: tuple[str, ...] = ()
        """Names of the classes the model knows; from the first result on."""
        self._backend = ""
        with contextlib.ExitStack() as stack:
            self._ray = stack.enter_context(_connected())
            nodes = [node for node in self._ray.nodes() if node["Alive"]]
            self._nodes = len(nodes)
            there = int(sum(node["Resources"].get(self._kind, 0) for node in nodes))
            self._actors = actors or (there if self._kind == "GPU" else self._nodes)
            if not 0 < self._actors <= there:
                raise UserError(
                    f"the Ray cluster has {there} {self._kind}s, and {model} needs one for each of "
                    f"{self._actors or 1} actors; take fewer --actors or another cluster"
                )
            self._closers = stack.pop_all()

    @property
    def machine(self) -> dict[str, Any]:
        """What it ran on, for ``run.json``."""
        library, version = self._backend.split()
        ray = {"ray": self._ray.__version__, "nodes": self._nodes, "actors": self._actors}
        return {library: version} | ray

    def detect_pictures(
        self,
        targets: dict[Path, Path | None],
        *,
        score_threshold: float,
        failed: Callable[[Record], None],
    ) -> Generator[Record]:
        """See ``runtime.pipeline.detect_pictures``; the records come in any order.

        Raises:
            UserError: an actor cannot load the model or write a picture; or they all die.
            OSError: an actor cannot write a picture.
        """
        left: _Targets = {
            str(path): None if target is None else str(target) for path, target in targets.items()
        }
        job = Job(
            folder=Path.cwd(),
            model=self._model,
            nms=self._nms,
            max_batch=self._max_batch,
            score_threshold=score_threshold,
        )
        # A picture that kills its actor takes the pictures beside it along: these get a second
        # chance, each alone.
        for size, at_once in ((self._block_size(len(left)), _BLOCKS_AT_ONCE), (1, 1)):
            for result in self._results(job, left, size, at_once):
                self.classes, self._backend = tuple(result["classes"]), result["backend"]
                for record in result["records"]:
                    if record["image"] not in left:
                        continue  # was done before
                    del left[record["image"]]
                    if "error" in record:
                        failed(record)
                    else:
                        yield record
            if not self.classes:
                raise UserError("every actor died before it had done anything, see above")
            if not left:
                return
        for name in left:
            reason = f"its actor died each of {1 + _RETRIES} times"
            failed({"image": name, "error": f"no detections in picture {name}: {reason}"})

    def close(self) -> None:
        """Leave the cluster; one of our own is shut down."""
        self._closers.close()

    def _block_size(self, pictures: int) -> int:
        """Pictures per block: whole batches, some blocks for every actor, not too many in all."""
        share = math.ceil(pictures / (self._actors * _BLOCKS_AT_ONCE))
        size = max(min(_BLOCK[self._kind], share), math.ceil(pictures / _MOST_BLOCKS), 1)
        return math.ceil(size / self._max_batch) * self._max_batch

    def _results(
        self, job: Job, targets: _Targets, size: int, at_once: int
    ) -> Iterator[dict[str, Any]]:
        """What the actors return, in any order; nothing for blocks whose actors died."""
        # Without any picture one block still asks an actor for the classes.
        blocks = list(batches(targets.items(), size)) or [[]]
        try:
            for result in self._mapped(job, map(json.dumps, blocks), len(blocks), at_once):
                if "problem" in result:
                    raise_problem(result["problem"])
                yield result
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"Ray gave up ({reason}); go on with --resume") from error

    def _mapped(
        self, job: Job, blocks: Iterable[str], count: int, at_once: int
    ) -> Iterator[dict[str, Any]]:
        from ray import data

        dataset = data.from_items([{"block": block} for block in blocks], override_num_blocks=count)
        detect: Any = BlockDetector  # a class is taken too, which the signature does not tell
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # max_task_retries is not taken from Ray 2.64 on
            results = dataset.map(
                detect,
                fn_constructor_args=(job,),
                compute=data.ActorPoolStrategy(
                    size=min(self._actors, count),
                    max_concurrent_calls_per_actor=at_once,
                    max_tasks_in_flight_per_actor=at_once,
                    enable_true_multi_threading=True,
                ),
                num_cpus=1,
                num_gpus=1 if self._kind == "GPU" else None,
                max_task_retries=_RETRIES,
            )
        for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
            yield from map(json.loads, batch["result"])


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    """The module ``ray``, connected to a cluster until the block ends.

    Raises:
        UserError: it is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray import data
    except ImportError as error:
        raise UserError(
            f"--ray needs Ray Data, which cannot be imported ({error}); pip install 'ray[data]'"
        ) from error
    address = os.environ.get("RAY_ADDRESS", "local")
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    disabled, sigterm = logging.root.manager.disable, signal.getsignal(signal.SIGTERM)
    # Ray Data tells of each step and, with a traceback, of each block that has to be done again.
    logging.disable(logging.CRITICAL)
    try:
        try:
            _check_reachable(address)
            ray.init(address, **own if address == "local" else {})
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"cannot use the Ray cluster {address}: {reason}") from error
        signal.signal(signal.SIGTERM, sigterm)  # Ray's would end the process with another code
        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.max_errored_blocks = -1  # blocks whose actors died are missed, and done again
        yield ray
    finally:
        ray.shutdown()
        logging.disable(disabled)


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing answers: Ray would try for ten minutes.

    Raises:
        OSError: nothing answers.
    """
    host, separator, port = address.rpartition(":")
    if separator and port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()

"""Made-up figures, stored as the benchmarks store them."""

from __future__ import annotations

import json

SIZE = {"contender": "engine-fp16", "model": "co_dino_swin_l", "height": 608, "width": 608}
MEMORY = {"engine_bytes": 480e6, "activation_bytes": 268e6, "io_bytes": 6e6}
LARGE = MEMORY | {"activation_bytes": 8 * 268e6, "io_bytes": 48e6}


def save_throughputs(folder, process_bytes=8e9):
    """An engine for one picture and one for up to 8; ``process_bytes`` is that one's."""
    alone = [load(1, n, ms, [1, 1], n * 1e9) | MEMORY for n, ms in ((1, 5.0), (2, 8.0))]
    dynamic = [
        load(batch, contexts, ms, [1, 8], process_bytes) | LARGE
        for contexts, batch, ms in ((2, 8, 64.0), (2, 1, 10.0), (1, 8, 40.0), (1, 1, 6.25))
    ]
    for name, rows in (("a-batch1-8", dynamic), ("b", alone)):
        (folder / f"throughput-{name}.json").write_text(json.dumps({"rows": rows}))


def load(batch, contexts, ms, built_for, process_bytes):
    return SIZE | {
        "batch": batch,
        "contexts": contexts,
        "built_for": built_for,
        "round_ms": {"p50": ms},
        "pictures_per_s": 1000 * batch * contexts / ms,
        "process_bytes": process_bytes,
    }

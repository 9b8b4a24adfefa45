"""Shows people where an engine's time goes: tables on the terminal, and a plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from runtime.profile import KINDS, LayerProfile, Peaks, Profile
from runtime.svg import document

SLOWEST = 10
"""Layers that are named one by one."""
_COLOURS = dict(
    zip(
        KINDS,
        ("#1f6fb2", "#d2691e", "#3a8f3a", "#8e5bb5", "#c94f7c", "#7f7f7f", "#b5a13a", "#4bb0b8"),
        strict=True,
    )
)
_LEFT, _TOP, _ROW, _WIDTH = 130, 66, 30, 720


def print_profile(profile: Profile) -> None:
    """Print time by part and kind, work by kind against the chip, and the slowest layers."""
    console = Console(highlight=False)
    console.print(_by_part(profile.layers))
    console.print(_by_kind(profile.layers, profile.peaks))
    console.print(_slowest(profile.layers))


def plot(profile: Profile, title: str) -> str:
    """An SVG: a bar for each part of the model, divided by kind of kernel."""
    parts = _grouped(profile.layers, lambda layer: layer.part)
    longest = max(map(_sum_ms, parts.values()))
    body = [f'<text x="12" y="22" font-size="15">{title}</text>', *_legend()]
    for row, (part, members) in enumerate(parts.items()):
        body += _bar(part, members, _TOP + row * _ROW, _WIDTH / longest)
    return document(_LEFT + _WIDTH + 90, _TOP + _ROW * len(parts) + 10, body)


def _bar(part: str, layers: Sequence[LayerProfile], y: int, scale: float) -> Iterator[str]:
    """``scale`` is in pixels for a millisecond."""
    yield f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{part}</text>'
    x = float(_LEFT)
    kinds = _grouped(layers, lambda layer: layer.kind)
    for kind in KINDS:
        ms = _sum_ms(kinds.get(kind, ()))
        yield (
            f'<rect x="{x:.1f}" y="{y}" width="{ms * scale:.1f}" height="{_ROW - 8}" '
            f'fill="{_COLOURS[kind]}"><title>{kind} {ms:.2f} ms</title></rect>'
        )
        x += ms * scale
    yield f'<text x="{x + 6:.1f}" y="{y + 15}">{_sum_ms(layers):.2f} ms</text>'


def _legend() -> Iterator[str]:
    for number, (kind, colour) in enumerate(_COLOURS.items()):
        x = 12 + 108 * number
        yield f'<rect x="{x}" y="36" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 17}" y="46">{kind}</text>'


def _by_part(layers: Sequence[LayerProfile]) -> Table:
    table = Table(title="time of the layers, one after the other without CUDA graph")
    table.add_column("")
    for column in ("ms", "share"):
        table.add_column(column, justify="right")
    table.add_column("of which, ms", overflow="fold")
    total = _sum_ms(layers)
    for part, members in (_grouped(layers, lambda layer: layer.part) | {"all": layers}).items():
        kinds = _grouped(members, lambda layer: layer.kind)
        times = ", ".join(f"{kind} {_sum_ms(group):.2f}" for kind, group in kinds.items())
        ms = _sum_ms(members)
        table.add_row(part, f"{ms:.2f}", f"{ms / total:.0%}", times)
    return table


def _by_kind(layers: Sequence[LayerProfile], peaks: Peaks) -> Table:
    table = Table(title="work, each tensor read or written once, and how near the chip's limits")
    for column in ("", "layers", "ms", "TFLOP/s", "of fp16 peak", "GB/s", "of peak"):
        table.add_column(column, justify="right" if column else "left")
    for kind, members in _grouped(layers, lambda layer: layer.kind).items():
        ms = _sum_ms(members)
        tflops = sum(layer.flops for layer in members) / ms / 1e9
        gb_per_s = sum(layer.nbytes for layer in members) / ms / 1e6
        computes = tflops > 0
        table.add_row(
            kind,
            str(len(members)),
            f"{ms:.2f}",
            f"{tflops:.0f}" if computes else "",
            f"{tflops / peaks.tflops:.0%}" if computes and peaks.tflops else "",
            f"{gb_per_s:.0f}",
            f"{gb_per_s / peaks.gb_per_s:.0%}",
        )
    return table


def _slowest(layers: Sequence[LayerProfile]) -> Table:
    table = Table(title=f"the {SLOWEST} slowest layers")
    table.add_column("ms", justify="right")
    for column in ("kind", "part", "layer"):
        table.add_column(column, overflow="fold")
    for layer in sorted(layers, key=lambda layer: -layer.ms)[:SLOWEST]:
        table.add_row(f"{layer.ms:.3f}", layer.kind, layer.part, layer.name)
    return table


def _grouped(
    layers: Sequence[LayerProfile], key: Callable[[LayerProfile], str]
) -> dict[str, list[LayerProfile]]:
    """The layers that take time, by key; the group that takes most comes first."""
    groups: dict[str, list[LayerProfile]] = {}
    for layer in layers:
        if layer.ms > 0:
            groups.setdefault(key(layer), []).append(layer)
    return dict(sorted(groups.items(), key=lambda group: -_sum_ms(group[1])))


def _sum_ms(layers: Sequence[LayerProfile]) -> float:
    return sum(layer.ms for layer in layers)

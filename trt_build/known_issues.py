"""Versions of TensorRT that are reported to compute wrongly what our engines hold.

Such an engine builds without an error and detects other things, or nothing: only ``verify`` tells.
GridSample, wrong from 10.14 to 11.1 (NVIDIA/TensorRT #4813), is in none of our graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.compatibility import numbers_of


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """What was reported, of which versions, and on which GPUs."""

    reference: str
    """Where it was reported."""
    what: str
    """What comes out wrong."""
    capabilities: frozenset[str]
    """Compute capabilities of the GPUs."""
    precisions: frozenset[str]
    since: str
    """The first version; that of the report, where no older one was tried."""
    fixed: str | None
    """The first version without it; None: none is known."""

    def concerns(self, version: str, capability: str, precision: str) -> bool:
        """Whether an engine of this precision, built here by this version, may have it."""
        numbers = numbers_of(version)
        return (
            capability in self.capabilities
            and precision in self.precisions
            and numbers >= numbers_of(self.since)
            and (self.fixed is None or numbers < numbers_of(self.fixed))
        )


_HALF = frozenset({"fp16", "bf16", "fp8"})

KNOWN_ISSUES = (
    KnownIssue(
        reference="https://github.com/NVIDIA/TensorRT/issues/4837",
        what="fused attention",
        capabilities=frozenset({"12.0"}),
        precisions=_HALF,
        since="10.6",  # reported as lasting up to 10.16.1, without a first version
        fixed=None,
    ),
    KnownIssue(
        reference="https://github.com/NVIDIA/TensorRT-Edge-LLM/issues/105",
        what="linear layers that share an input, at batch 1",
        capabilities=frozenset({"11.0"}),
        precisions=_HALF,
        since="10.13",
        fixed=None,
    ),
)


def known_issues(version: str, capability: str, precision: str) -> list[str]:
    """Warnings about an engine, a line each.

    Args:
        version: of TensorRT: "10.16.1.11".
        capability: the GPU's: "12.0".
        precision: the model's.
    """
    return [
        f"TensorRT {version} may compute {issue.what} wrongly in {precision} on GPUs of compute "
        f"capability {capability} ({issue.reference}); check the engine: python -m trt_build verify"
        for issue in KNOWN_ISSUES
        if issue.concerns(version, capability, precision)
    ]

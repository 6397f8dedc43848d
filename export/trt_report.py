"""What builds of plans say: to people as lines and a table, to programs as facts."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from engine.backends.plans import PlanCache

if TYPE_CHECKING:
    from export.trt import Built


def built_facts(built: "Built") -> dict[str, Any]:
    """For programs: docs/tensorrt.md, "For programs"."""
    return {
        "built": built.role,
        "reused": built.reused,
        "precision": built.precision,
        "seconds": round(built.seconds, 1),
        "size_bytes": built.size_bytes,
        "layers": built.layers,
        "latency_ms": built.latency_ms,
    }


def print_built(built: "Built", console: Console) -> None:
    state = "in the cache" if built.reused else f"built in {built.seconds:.0f} s"
    facts = f"{built.size_bytes / 2**20:.1f} MB, {built.layers} layers, {built.precision}, {built.latency_ms:.3f} ms"
    console.print(f"{built.role}: {facts}, {state}", highlight=False)


def print_list(cache: PlanCache, console: Console) -> None:
    table = Table("graph", "pack", "avatars", "precision", "GPU", "TensorRT", "driver", "MB", "ms", "built")
    for sealed in cache.plans():
        key, facts = sealed.header["key"], sealed.header["facts"]
        built = datetime.fromtimestamp(facts["built"], UTC).isoformat(" ", "minutes")
        size, latency = f"{len(sealed.payload) / 2**20:.1f}", f"{facts['latency_ms']:.3f}"
        who = (
            facts["role"],
            facts["pack"],
            str(facts.get("batch", 1)),
            key["precision"],
            f"{key['gpu']} ({key['compute_capability']})",
        )
        table.add_row(*who, key["tensorrt"], key["driver"], size, latency, built)
    console.print(table)
    for reason in cache.refused():
        console.print(f"refused: {reason}", highlight=False)
    console.print(str(cache.folder), highlight=False)

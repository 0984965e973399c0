"""The least time that a train step could take on a card: a roofline, computed and not measured.

A pass of a layer takes at least the longest of three: its operations at the card's rate, its bytes
at the bandwidth of the card's memory, its turns one after the other. Layers follow each other. What
they do is in `layer_work`, with all that is assumed, and the cards' figures are in `cards`. Numbers
are of the type of the computation; parameters are read in each pass, and their gradients written
once. The optimiser is Adam: it reads parameter, gradient and two averages and writes all but the
gradient, 28 bytes of float32 for each parameter.

It is no forecast: no program reaches all of a card's rate, and one that fuses more than is assumed
moves less.
"""

import math
from typing import Any, NamedTuple

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.experiments.cards import Card
from jfsed_jax.experiments.layer_work import LayerWork, layer_works
from jfsed_jax.experiments.our_side import make_system

_WIDTHS = {"bfloat16": 2, "float32": 4}
_ADAM_BYTES = 28  # a parameter


class Bound(NamedTuple):
    """A pass of a layer over a batch and the least time for it.

    Attributes:
      flops, bytes: of the pass.
      seconds: the least.
      by: what takes it: ``flops``, ``memory`` or ``turns``.
    """

    flops: int
    bytes: int
    seconds: float
    by: str


def bound_of(work: LayerWork, which: str, size: int, dtype: str, card: Card, turn: float) -> Bound:
    """The least time of a pass.

    Args:
      which: ``inference``, ``forward`` in training, or ``backward``.
      size: clips.
      turn: seconds of a turn of the recurrence.
    """
    passes = 2 if which == "backward" else 1  # over operations and parameters
    moved = {
        "inference": work.forward,
        "forward": work.forward + work.statistics,
        "backward": work.backward,
    }
    flops = passes * size * work.flops
    moved_bytes = _WIDTHS[dtype] * (size * moved[which] + passes * work.parameters)
    times = {
        "flops": flops / card.flops[dtype],
        "memory": moved_bytes / card.bandwidth,
        "turns": work.turns * turn,
    }
    by = max(times, key=times.__getitem__)
    return Bound(flops, moved_bytes, times[by], by)


def step_roofline(config, card: Card, size: int | None = None) -> dict[str, Any]:
    """The bounds of a train step and of the student's inference; JSON-able, see `format_roofline`.

    Args:
      config: as ``configs/base.py`` lays it out.
      card: of `cards`.
      size: clips in a batch; by default the config's.

    Raises:
      InputError: a model is not one of the package's.
    """
    size, dtype = size or sum(config.batch.values()), config.compute_dtype
    front_end, models = FrontEnd(**config.front_end), make_system(config).models
    works = {
        name: layer_works(model, front_end.num_frames, front_end.n_mels)
        for name, model in models.named().items()
    }
    trained = ["student"] if models.teacher is None or models.alone else ["teacher", "student"]
    updated = _ADAM_BYTES * sum(work.parameters for name in trained for work in works[name])

    def step(turn: float) -> dict[str, dict[str, Bound]]:
        layers: dict[str, dict[str, Bound]] = {}
        for name, own in works.items():
            which = ("forward", "backward") if name in trained else ("forward",)
            for work in own:
                layers[f"{name}: {work.name}"] = {
                    kind: bound_of(work, kind, size, dtype, card, turn) for kind in which
                }
        update = Bound(0, updated, updated / card.bandwidth, "memory")
        return layers | {"Adam": {"forward": update}}

    def inference(turn: float) -> float:
        own = (bound_of(w, "inference", size, dtype, card, turn) for w in works["student"])
        return math.fsum(found.seconds for found in own)

    steps = {kind: step(turn) for kind, turn in card.turns.items()}
    return {
        "config": f"{config.system}:{config.size}",
        "batch": size,
        "dtype": dtype,
        "card": card._asdict(),
        "layers": {
            name: {kind: found._asdict() for kind, found in passes.items()}
            for name, passes in next(iter(steps.values())).items()
        },
        "step_seconds": {
            kind: math.fsum(
                found.seconds for passes in layers.values() for found in passes.values()
            )
            for kind, layers in steps.items()
        },
        "inference_seconds": {kind: inference(turn) for kind, turn in card.turns.items()},
    }


def format_roofline(result: dict[str, Any]) -> str:
    """The result for a person, with the figures that it is computed from."""
    card, dtype = result["card"], result["dtype"]
    turns = ", ".join(f"{1e6 * turn:.3g} us ({kind})" for kind, turn in card["turns"].items())
    known = "measured" if card["source"] == "measured" else "assumed"
    lines = [
        f"{result['config']}, batch {result['batch']}, {dtype}: the least time by a roofline, "
        "computed and not measured",
        f"{card['name']}: {card['flops'][dtype] / 1e12:.4g} TFLOP/s, "
        f"{card['bandwidth'] / 1e9:.4g} GB/s ({card['source']})",
        f"a turn of the recurrence: {turns}, {known}",
        "",
    ]
    header = ["", "GFLOP", "MB", "FLOP/B", "us", "by", "back: GFLOP", "MB", "us", "by"]
    table = [header] + [_cells(name, passes) for name, passes in result["layers"].items()]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        cells = [
            cell.ljust(width) if header[i] in ("", "by") else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.append("")
    for title in ("step", "inference"):
        sums = result[f"{title}_seconds"].items()
        parts = ", ".join(f"{1e3 * seconds:.3g} ms ({kind})" for kind, seconds in sums)
        name = "train step" if title == "step" else "student's inference"
        lines.append(f"{name}: at least {parts}")
    kind = next(iter(card["turns"]))
    passes = [found for layer in result["layers"].values() for found in layer.values()]
    shares = {
        by: math.fsum(found["seconds"] for found in passes if found["by"] == by)
        for by in ("flops", "memory", "turns")
    }
    parts = ", ".join(f"{by} {1e3 * seconds:.3g} ms" for by, seconds in shares.items())
    lines.append(f"the table is that of {kind}; what takes the time: {parts}")
    return "\n".join(lines)


def _cells(name: str, passes: dict[str, dict[str, Any]]) -> list[str]:
    forward, backward = passes["forward"], passes.get("backward")
    cells = [name, *_amounts(forward), f"{forward['flops'] / forward['bytes']:.3g}"]
    cells += [f"{1e6 * forward['seconds']:.3g}", forward["by"]]
    if backward is None:
        return [*cells, "", "", "", ""]
    return [*cells, *_amounts(backward), f"{1e6 * backward['seconds']:.3g}", backward["by"]]


def _amounts(found: dict[str, Any]) -> tuple[str, str]:
    return f"{found['flops'] / 1e9:.4g}", f"{found['bytes'] / 1e6:.4g}"

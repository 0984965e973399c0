"""Which clips to show: few that together hold many classes."""

from collections.abc import Collection, Sequence


def example_clips(labels: Sequence[Collection[str]], most: int) -> list[int]:
    """Positions of at most `most` clips, each the one that adds most classes to those before it.

    Of equals the one with more classes comes first, then the earlier one.

    Args:
      labels: of each clip, the classes that it holds.
      most: how many clips.
    """
    chosen: list[int] = []
    seen: set[str] = set()
    for _ in range(min(most, len(labels))):
        rest = [i for i in range(len(labels)) if i not in chosen]
        best = max(rest, key=lambda i: (len(set(labels[i]) - seen), len(set(labels[i])), -i))
        chosen.append(best)
        seen |= set(labels[best])
    return chosen

"""What the scores are called."""

from typing import NamedTuple


class ScoreTitle(NamedTuple):
    """A score's name by itself, its name where the meaning stands beside it, and that meaning."""

    text: str
    short: str
    meaning: str


# By the keys of scores.json, in the order of tables.
TITLES = {
    "event_f1": ScoreTitle(
        "Event-F1", "Event-F1", "onset within 0.2 s, offset within 0.2 s or 20 %"
    ),
    "segment_f1": ScoreTitle("Segment-F1", "Segment-F1", "active or not in each second"),
    "intersection_f1": ScoreTitle(
        "Intersection-F1",
        "Intersection-F1",
        "half of each event in detections, and half of each of these",
    ),
    "at_f1": ScoreTitle("AT-F1 (clip head)", "AT-F1", "tags from the clip head"),
    "at_f1_events": ScoreTitle(
        "AT-F1 (events)", "AT-F1 from events", "tags from the events that survive"
    ),
}

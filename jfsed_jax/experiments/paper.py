"""The paper's own figures: tables 1, 2 and 3 of Liang et al., arXiv 2103.12388, as printed.

They are macro F1 in percent on DCASE 2019 Task 4, and belong beside ours only as what was to be
reproduced; none of them has been measured here.
"""

from typing import NamedTuple

Printed = tuple[float | None, float | None]  # development, evaluation set; None: not given


class PublishedScores(NamedTuple):
    """A row's scores, named as those of scores.json that they stand beside.

    The paper's AT-F1 moves with the median windows (table 3), so its tags are those of the events
    that survive them.
    """

    event_f1: Printed
    segment_f1: Printed
    at_f1_events: Printed


class PaperSystem(NamedTuple):
    """A row of table 1: its number, the config that trains it, its name and scores."""

    number: int
    config: str
    title: str
    scores: PublishedScores


class FocalSetting(NamedTuple):
    """A row of table 2: tau in epochs, gamma, the scores. Without tau there is no second stage."""

    tau: int | None
    gamma: int | None
    scores: PublishedScores


class WindowScores(NamedTuple):
    """A row of table 3, evaluation set: Event-F1 (AED) and AT-F1 with avg and with esp windows."""

    aed_avg: float
    at_avg: float
    aed_esp: float
    at_esp: float


# fmt: off
SYSTEMS = (
    PaperSystem(0, "mean_teacher", "MT (official baseline)",
                PublishedScores((None, 25.8), (None, 53.7), (None, 45.8))),
    PaperSystem(1, "guided_learning", "GL (top 1)",
                PublishedScores((43.3, 40.5), (67.1, 66.5), (74.1, 70.2))),
    PaperSystem(2, "pts_without_bgru", "PTS(w/o BGRUs)",
                PublishedScores((42.0, 39.4), (63.3, 61.0), (71.2, 69.1))),
    PaperSystem(3, "pts", "PTS",
                PublishedScores((43.1, 40.9), (69.0, 68.1), (75.0, 73.4))),
    PaperSystem(4, "pts_dfd_mse", "PTS+DFD-MSE",
                PublishedScores((44.1, 41.3), (69.9, 69.6), (71.3, 68.7))),
    PaperSystem(5, "pts_dfd_d", "PTS+DFD-D",
                PublishedScores((44.4, 41.7), (73.2, 71.1), (73.4, 72.9))),
    PaperSystem(6, "pts_tfd", "PTS+TFD",
                PublishedScores((48.0, 45.4), (71.7, 70.2), (78.6, 77.1))),
    PaperSystem(7, "pts_tfd_dfd_d", "PTS+TFD+DFD-D(w+u)",
                PublishedScores((42.9, 40.1), (72.9, 72.0), (75.2, 73.3))),
    PaperSystem(8, "pts_tfd_afl", "PTS+TFD+AFL",
                PublishedScores((48.9, 47.1), (75.6, 74.0), (80.0, 78.1))),
    PaperSystem(9, "pts_tfd_afl_esp", "PTS+TFD+AFL+ESP",
                PublishedScores((51.6, 49.8), (76.4, 75.9), (83.4, 81.2))),
)

FOCAL = (
    FocalSetting(None, None, PublishedScores((48.0, 45.4), (71.7, 70.2), (78.6, 77.1))),
    FocalSetting(10, 2, PublishedScores((49.1, 47.0), (75.4, 75.1), (78.0, 76.6))),
    FocalSetting(15, 2, PublishedScores((48.9, 47.1), (75.6, 74.0), (80.0, 78.1))),
    FocalSetting(30, 2, PublishedScores((48.0, 47.1), (70.8, 70.1), (76.9, 76.4))),
    FocalSetting(15, 1, PublishedScores((45.5, 44.8), (74.3, 73.3), (75.3, 74.4))),
    FocalSetting(15, 3, PublishedScores((48.0, 46.6), (75.6, 74.0), (77.0, 75.2))),
)
TAU = 15  # of system 8, in epochs of 200

OVERALL = "Overall"  # the row of the macro averages
WINDOWS = {
    "Alarm_bell_ringing": WindowScores(47.6, 77.4, 48.3, 83.3),
    "Blender": WindowScores(39.5, 63.7, 40.3, 72.3),
    "Cat": WindowScores(57.1, 86.1, 66.2, 89.6),
    "Dishes": WindowScores(34.5, 74.6, 38.5, 78.2),
    "Dog": WindowScores(52.2, 87.7, 52.8, 88.3),
    "Electric_shaver_toothbrush": WindowScores(43.5, 78.0, 51.4, 80.8),
    "Frying": WindowScores(51.5, 73.8, 54.5, 80.2),
    "Running_water": WindowScores(32.9, 68.1, 31.2, 63.2),
    "Speech": WindowScores(56.9, 93.4, 58.9, 93.3),
    "Vacuum_cleaner": WindowScores(54.7, 77.7, 55.2, 82.3),
    OVERALL: WindowScores(47.1, 78.0, 49.8, 81.2),
}
# fmt: on

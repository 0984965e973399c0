"""The paper's figures, typed here from its tables and not from `paper.py`."""

from jfsed_jax.config_files import load_config
from jfsed_jax.experiments import paper
from jfsed_jax.sed.events import DCASE2019_CLASSES

# arXiv 2103.12388, table 1: ID, system; Event-F1, Segment-F1, AT-F1 as development / evaluation.
TABLE_1 = """
0  MT (Official baseline)   -/ 25.8      -/ 53.7      -/ 45.8
1  GL (Top-1)               43.3 / 40.5  67.1 / 66.5  74.1 / 70.2
2  PTS(w/o BGRUs)           42.0 / 39.4  63.3 / 61.0  71.2 / 69.1
3  PTS                      43.1 / 40.9  69.0 / 68.1  75.0 / 73.4
4  PTS+DFD-MSE              44.1 / 41.3  69.9 / 69.6  71.3 / 68.7
5  PTS+DFD-D                44.4 / 41.7  73.2 / 71.1  73.4 / 72.9
6  PTS+TFD                  48.0 / 45.4  71.7 / 70.2  78.6 / 77.1
7  PTS+TFD+DFD-D(w+u)       42.9 / 40.1  72.9 / 72.0  75.2 / 73.3
8  PTS+TFD+AFL              48.9 / 47.1  75.6 / 74.0  80.0 / 78.1
9  PTS+TFD+AFL+ESP          51.6 / 49.8  76.4 / 75.9  83.4 / 81.2
"""

# Table 2: tau, gamma, and the same scores. Of 200 epochs all are stage 1: there is no second one.
TABLE_2 = """
200  -   48.0 / 45.4  71.7 / 70.2  78.6 / 77.1
10   2   49.1 / 47.0  75.4 / 75.1  78.0 / 76.6
15   2   48.9 / 47.1  75.6 / 74.0  80.0 / 78.1
30   2   48.0 / 47.1  70.8 / 70.1  76.9 / 76.4
15   1   45.5 / 44.8  74.3 / 73.3  75.3 / 74.4
15   3   48.0 / 46.6  75.6 / 74.0  77.0 / 75.2
"""

# Table 3, evaluation set: class; AED / AT with avg windows, then with ESP.
TABLE_3 = """
Alarm/bell/ringing          47.6 / 77.4  48.3 / 83.3
Blender                     39.5 / 63.7  40.3 / 72.3
Cat                         57.1 / 86.1  66.2 / 89.6
Dishes                      34.5 / 74.6  38.5 / 78.2
Dog                         52.2 / 87.7  52.8 / 88.3
Electric shaver/toothbrush  43.5 / 78.0  51.4 / 80.8
Frying                      51.5 / 73.8  54.5 / 80.2
Running water               32.9 / 68.1  31.2 / 63.2
Speech                      56.9 / 93.4  58.9 / 93.3
Vacuum cleaner              54.7 / 77.7  55.2 / 82.3
Overall                     47.1 / 78.0  49.8 / 81.2
"""


def rows(table, columns):
    """Per line the words before its scores, and its pairs of scores; None for a dash."""
    for line in table.strip().splitlines():
        cells = line.replace("/ ", " ").replace(" / ", " ").split()
        numbers = [None if cell.rstrip("/") == "-" else float(cell) for cell in cells[-columns:]]
        yield cells[:-columns], list(zip(numbers[::2], numbers[1::2], strict=True))


def test_table_1():
    found = {system.number: system for system in paper.SYSTEMS}
    printed = list(rows(TABLE_1, 6))
    assert [system.number for system in paper.SYSTEMS] == list(range(10)) and len(printed) == 10
    for (number, *name), (event, segment, tags) in printed:
        system = found[int(number)]
        assert system.scores._asdict() == {
            "event_f1": event,
            "segment_f1": segment,
            "at_f1_events": tags,
        }
        title, asked = (text.lower().replace("-", " ") for text in (system.title, " ".join(name)))
        assert title == asked
    # The config that trains each, as the paper names what it adds.
    assert [system.config for system in paper.SYSTEMS] == [
        "mean_teacher",
        "guided_learning",
        "pts_without_bgru",
        "pts",
        "pts_dfd_mse",
        "pts_dfd_d",
        "pts_tfd",
        "pts_tfd_dfd_d",
        "pts_tfd_afl",
        "pts_tfd_afl_esp",
    ]


def test_table_2():
    printed = list(rows(TABLE_2, 6))
    assert len(printed) == len(paper.FOCAL)
    for ((tau, gamma), scores), found in zip(printed, paper.FOCAL, strict=True):
        stages = (None, None) if gamma == "-" else (int(tau), int(gamma))
        assert (found.tau, found.gamma) == stages
        assert list(found.scores) == scores
    # "the setup with Epoch = 15 and gamma = 2 represents the system 8", of 200 epochs.
    config = load_config("configs/pts_tfd_afl.py")
    assert (config.loss.tau, config.loss.gamma, config.epochs) == (paper.TAU, 2, 200)
    assert paper.TAU == 15


def test_table_3():
    printed = list(rows(TABLE_3, 4))
    assert len(printed) == 11
    for (name, avg, esp), label in zip(
        ((" ".join(name), *pairs) for name, pairs in printed),
        (*DCASE2019_CLASSES, paper.OVERALL),
        strict=True,
    ):
        assert label.replace("_", " ") == name.replace("/", " ")
        found = paper.WINDOWS[label]
        assert (found.aed_avg, found.at_avg) == avg
        assert (found.aed_esp, found.at_esp) == esp
    assert list(paper.WINDOWS) == [*DCASE2019_CLASSES, "Overall"]

"""Pages in Chromium, from a file: recordings and clips play, seek, filter, and stay at home."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_recording_page import FRAME_RATE, HOSTILE, embedded, make_recording
from test_report import make_workdir

from jfsed_jax.audio.encoding import MIME, opus, opus_excerpts
from jfsed_jax.report.excerpts import choose_excerpts
from jfsed_jax.report.recording_page import (
    EmbeddedAudio,
    EmbeddedExcerpts,
    clock,
    pool_maxima,
    write_recording_page,
)
from jfsed_jax.report.run_page import write_report
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import detect_events
from jfsed_jax.sed.tables import read_events

pytest.importorskip("playwright.sync_api", reason="the extra [browser] is missing")

SECONDS = 1200.0
AUDIO = "garden.flac"


@pytest.fixture(scope="module")
def heard():
    recording = make_recording(SECONDS, bursts=150, audio=AUDIO)
    # At both ends, where a median sees the mirror image: values below, at and above a threshold.
    frames, draw = recording.posteriors, np.random.default_rng(5)
    for end in (frames[:180], frames[-180:]):
        end[:] = draw.choice([0.1, 0.8, 0.9], (30, frames.shape[1])).repeat(6, 0)
    return recording


@pytest.fixture(scope="module")
def place(tmp_path_factory, heard) -> Path:
    """A folder with the page and, beside it, 20 minutes of a tone."""
    folder = tmp_path_factory.mktemp("page")
    write_recording_page(folder / "page.html", heard)
    write_tone(folder / AUDIO, SECONDS)
    return folder


@pytest.fixture(scope="module")
def excerpts(tmp_path_factory) -> Path:
    """A page of 200 s that holds 29 to 34 s and 99 to 102 s, and not the event at 150 s."""
    folder = tmp_path_factory.mktemp("excerpts")
    write_tone(folder / "long.wav", 200.0)
    times = (30, 32, "Dog"), (31.5, 33, "Cat"), (100, 101, "Speech"), (150, 152, "Dog")
    events = [Event("long.wav", *event) for event in times]
    confidences = [(0.9, 0.9), (0.8, 0.9), (0.7, 0.9), (0.6, 0.9)]
    chosen = choose_excerpts(events, confidences, seconds=200.0, most=10.0)
    assert chosen.spans == [(29.0, 34.0), (99.0, 102.0)]
    sounds = [
        EmbeddedAudio(part, MIME) for part in opus_excerpts(folder / "long.wav", chosen.spans)
    ]
    recording = make_recording(200.0, bursts=0, name="long.wav")
    audio = EmbeddedExcerpts(chosen, sounds)
    heard = replace(recording, events=events, confidences=confidences, audio=audio)
    return write_recording_page(folder / "page.html", heard)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The page of a run whose clips can be heard."""
    folder = tmp_path_factory.mktemp("run")
    make_workdir(folder, splits={"validation": 8}, examples=2, num_epochs=4)
    write_tone(folder / "tone.wav", 10.0)
    sound = np.frombuffer(opus(folder / "tone.wav"), np.uint8)
    path = folder / "eval/validation/examples.npz"
    kept = dict(np.load(path))
    ends = np.array([len(sound), 2 * len(sound)])
    np.savez(path, **kept, sound=np.tile(sound, 2), sound_ends=ends)
    return write_report(folder)


def write_tone(path: Path, seconds: float) -> None:
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 8000)) / 8000)
    soundfile.write(path, tone.astype(np.float32), 8000, subtype="PCM_16")


def wait(page, expression: str) -> None:
    """Until it is true; playwright's own waiting evaluates text, which the policy refuses."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def at(page) -> float:
    return page.evaluate("document.querySelector('audio').currentTime")


# Where the cursor of the window is, in percent; outside it, below 0.
CURSOR = "parseFloat(document.getElementById('window').style.getPropertyValue('--at'))"


def test_it_plays_and_the_cursor_moves(place, visit):
    page = visit(place / "page.html")
    page.click("#play")
    wait(page, f"{CURSOR} > 0")
    wait(page, f"{CURSOR} > {page.evaluate(CURSOR) + 1}")
    assert page.inner_text("#play") == "Pause"
    page.focus("#position")
    page.keyboard.press("Space")
    wait(page, "document.getElementById('play').textContent === 'Play'")
    assert page.evaluate("document.querySelector('audio').paused")
    # The window is of 30 s, and both stand where the sound stands.
    assert page.evaluate(CURSOR) == pytest.approx(100 * at(page) / 30, abs=0.5)
    assert page.inner_text("#time") == f"{clock(at(page))} of {clock(SECONDS)}"


def test_the_window_follows_the_sound(place, visit):
    page = visit(place / "page.html")
    page.evaluate("document.querySelector('audio').currentTime = 29.7")
    page.click("#play")
    wait(page, f"{CURSOR} > 50")
    wait(page, f"{CURSOR} > 0 && {CURSOR} < 50")
    assert at(page) > 30


def test_events_are_buttons_that_seek(place, heard, visit):
    page = visit(place / "page.html")
    by_time = sorted(heard.events, key=lambda e: e[1:])
    buttons = page.locator("#list button")
    assert buttons.count() == min(len(by_time), 100)
    assert page.locator("#static").count() == 0
    for i in (40, 3):
        buttons.nth(i).focus()
        page.keyboard.press("Enter")
        assert at(page) == pytest.approx(by_time[i].onset, abs=2e-3)
        assert 0 <= page.evaluate(CURSOR) <= 100
        assert page.locator("#list [aria-current]").count() == 1
        assert buttons.nth(i).get_attribute("aria-current") == "true"
        assert buttons.nth(i).inner_text().split("\n")[0].startswith(clock(by_time[i].onset))


def test_keys_and_next_and_previous(place, heard, visit):
    page = visit(place / "page.html")
    onsets = sorted(event.onset for event in heard.events)
    page.focus("#position")
    for key, time in (
        *(("n", onsets[0]), ("n", onsets[1]), ("p", onsets[0])),
        *(("End", SECONDS), ("p", onsets[-1]), ("Home", 0.0)),
        *(("ArrowRight", 1.0), ("Shift+ArrowRight", 11.0), ("ArrowLeft", 10.0)),
    ):
        page.keyboard.press(key)
        assert at(page) == pytest.approx(time, abs=2e-3), key
    pressed = page.locator("#zoom [aria-pressed=true]")
    for key, text in (
        ("+", "10 s"),
        ("-", "30 s"),
        ("-", "2 min"),
        ("-", "10 min"),
        ("-", "10 min"),
    ):
        page.keyboard.press(key)
        assert pressed.inner_text() == text
    page.click("#next")
    assert at(page) == pytest.approx(next(t for t in onsets if t > 10), abs=2e-3)


def test_a_click_on_a_track_seeks_there(place, visit):
    page = visit(place / "page.html")
    # A quarter of a window of 30 s; half of the whole.
    for selector, part, time in (("#window .track", 0.25, 7.5), ("#overview .track", 0.5, 600)):
        track = page.locator(selector).first
        width = track.bounding_box()["width"]
        track.click(position={"x": part * width, "y": 5})
        assert at(page) == pytest.approx(time, abs=2 * SECONDS * part / width)


def test_a_class_without_its_tick_is_left_out(place, heard, visit):
    page = visit(place / "page.html")
    dogs = [e for e in heard.events if e.event_label == "Dog"]
    assert dogs
    page.get_by_role("checkbox", name="Dog").uncheck()
    listed = page.locator("#list button")
    assert "Dog" not in [text.split("\n")[1] for text in listed.all_inner_texts()]
    assert f"of {len(heard.events) - len(dogs)}" in page.inner_text("#range")
    assert page.locator("#window .lane", has_text="Dog").is_hidden()
    page.click("#none")
    assert listed.count() == 0 and page.locator("#next").is_disabled()
    page.get_by_role("checkbox", name="Dog").check()
    assert listed.count() == len(dogs)
    page.click("#all")
    assert f"of {len(heard.events)}" in page.inner_text("#range")


def test_the_list_is_sorted_by_confidence(place, visit):
    page = visit(place / "page.html")
    page.select_option("#order", "doubtful")
    sure = [float(t.split("\n")[2]) for t in page.locator("#list button").all_inner_texts()]
    assert sure == sorted(sure) and sure[0] == 0.5
    page.select_option("#order", "confident")
    assert page.locator("#list button").first.inner_text().endswith("0.75")


def saved(page, button: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return path


def by_time(events) -> list[Event]:
    return sorted(
        Event(e.filename, round(e.onset, 3), round(e.offset, 3), e.event_label) for e in events
    )


def test_downloads_are_the_events(place, heard, visit, tmp_path):
    page = visit(place / "page.html", accept_downloads=True)
    table = saved(page, "#tsv", tmp_path / "events.tsv")
    assert by_time(read_events(table).events) == by_time(heard.events)
    header, first, *_ = table.read_text().splitlines()
    assert header.split("\t")[4:] == ["confidence_mean", "confidence_max"]
    assert first.split("\t")[5] == "0.900"
    labels = saved(page, "#audacity", tmp_path / "labels.txt").read_text()
    rows = [line.split("\t") for line in labels.splitlines()]
    assert sorted((float(a), float(b), c) for a, b, c in rows) == [
        e[1:] for e in by_time(heard.events)
    ]


def test_another_threshold_gives_the_events_of_the_median_filters(place, heard, visit, tmp_path):
    page = visit(place / "page.html", accept_downloads=True)
    data = embedded((place / "page.html").read_text(encoding="utf-8"))
    # As the page holds them: bytes.
    pooled = pool_maxima(heard.posteriors.astype(np.float64), FRAME_RATE)
    pooled = np.round(pooled * 255) / 255

    def expected(thresholds):
        return by_time(
            detect_events(
                None, pooled[None], np.array(data["windows"]), filenames=[heard.name],
                classes=heard.classes, frame_rate=10.0, threshold=np.array(thresholds),
            )
        )  # fmt: skip

    page.fill("#threshold", "0.8")
    page.wait_for_selector("#back:not([disabled])")
    assert page.locator("#legend-explored").is_visible()
    assert page.inner_text("#range").endswith("at the threshold tried")
    table = saved(page, "#tsv", tmp_path / "all.tsv")
    assert by_time(read_events(table).events) == expected([0.8] * 10)
    page.select_option("#tried", label="Dog")
    before = page.inner_text("#range")
    page.fill("#threshold", "0.15")
    wait(page, f"document.getElementById('range').textContent !== {json.dumps(before)}")
    table = saved(page, "#tsv", tmp_path / "dog.tsv")
    thresholds = np.where(np.array(heard.classes) == "Dog", 0.15, 0.8)
    assert by_time(read_events(table).events) == expected(thresholds)
    page.click("#back")
    table = saved(page, "#tsv", tmp_path / "back.tsv")
    assert by_time(read_events(table).events) == by_time(heard.events)


def test_ten_thousand_events_are_a_hundred_buttons(visit, tmp_path):
    classes = ("a", "b")
    events = [Event("day.wav", 8.0 * i, 8.0 * i + 2, classes[i % 2]) for i in range(10_000)]
    day = replace(
        make_recording(1.0, classes, name="day.wav"),
        seconds=80_000.0,
        events=events,
        confidences=[(0.5, 0.5)] * len(events),
    )
    page = visit(write_recording_page(tmp_path / "day.html", day))
    assert page.locator("#list button").count() == 100
    assert page.inner_text("#range") == "1 to 100 of 10\u202f000"
    page.click("#after")
    assert page.inner_text("#range") == "101 to 200 of 10\u202f000"
    page.focus("#position")
    page.keyboard.press("End")
    page.keyboard.press("p")
    assert page.inner_text("#range") == "9\u202f901 to 10\u202f000 of 10\u202f000"
    assert page.locator("#list [aria-current]").inner_text().startswith(clock(79_992.0))
    assert page.evaluate("document.querySelectorAll('*').length") < 1000


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_names_execute_nothing(attack, visit, tmp_path):
    hostile = make_recording(
        60.0, (f"{attack}1", f"{attack}2"), name=attack, facts=[(attack, attack)]
    )
    page = visit(write_recording_page(tmp_path / "page.html", hostile))
    page.click("#next")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, svg, script:not(#data) ~ script ~ script").count() == 0
    shown = attack.replace("\udcff", "\ufffd").replace("_", " ")
    assert shown.split()[0] in page.inner_text("#list")


def test_the_policy_refuses_what_is_not_of_the_page(place, visit):
    page = visit(place / "page.html")
    refused = page.evaluate("""async () => {
        const refused = [];
        document.addEventListener("securitypolicyviolation", (event) => {
            refused.push(event.effectiveDirective);
        });
        const add = (tag, values) => {
            document.body.append(Object.assign(document.createElement(tag), values));
        };
        add("script", { textContent: "window.hacked = 1" });
        add("img", { src: "https://example.org/a.png" });
        add("audio", { src: "https://example.org/a.mp3" });
        add("style", { textContent: "body { color: red }" });
        await fetch("https://example.org/").catch(() => {});
        await new Promise((done) => setTimeout(done, 300));
        return refused;
    }""")
    assert sorted(refused) == [
        "connect-src",
        "img-src",
        "media-src",
        "script-src-elem",
        "style-src-elem",
    ]
    assert page.evaluate("window.hacked") is None
    # The browser tells of each on the console, and lists what it then did not ask for.
    page.problems.clear()
    page.requests.clear()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
@pytest.mark.parametrize("of", ["recording", "excerpts", "report"])
def test_axe_finds_nothing_serious(
    place, excerpts, report, visit, serious_findings, of, width, scheme
):
    size = {"width": width, "height": 900}
    path = {"recording": place / "page.html", "excerpts": excerpts, "report": report}[of]
    page = visit(path, ready=of != "report", viewport=size, color_scheme=scheme)
    if of != "report":
        page.click("#next")
    assert not serious_findings(page)
    # Nothing is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_without_a_script_there_is_a_list(place, heard, visit):
    page = visit(place / "page.html", ready=False, java_script_enabled=False)
    assert page.locator("#app").is_hidden() and page.locator("audio").is_visible()
    assert page.locator("#static tbody tr").count() == len(heard.events)


def test_embedded_audio_plays_and_seeks(visit, tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.zeros(20 * 8000, np.float32), 8000)
    audio = EmbeddedAudio(path.read_bytes(), "audio/wav")
    page = visit(write_recording_page(tmp_path / "page.html", make_recording(20.0, audio=audio)))
    page.focus("#position")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Space")
    wait(page, "document.querySelector('audio').currentTime > 10.3")


def test_audio_that_is_gone_is_told(visit, tmp_path, browser):
    page = visit(
        write_recording_page(tmp_path / "page.html", make_recording(20.0, audio="gone.wav"))
    )
    wait(page, "document.getElementById('status').textContent.includes('cannot')")
    page.problems.clear()


# What becomes of the start: the sound is loaded anew and so has not begun at the second click.
STARTED_AND_PAUSED = """async () => {
  const audio = document.querySelector('audio'), button = document.getElementById('play');
  const play = audio.play.bind(audio);
  let started;
  audio.play = () => started = play();
  audio.load();
  button.click();
  button.click();
  return started.then(() => 'it plays', ({ name }) => name);
}"""


def test_a_pause_before_the_sound_has_begun_is_no_failure(place, visit):
    page = visit(place / "page.html")
    page.click("#next")  # a page that nobody touched may play nothing
    assert page.evaluate(STARTED_AND_PAUSED) == "AbortError"
    assert "cannot be played" not in page.inner_text("#status")
    assert page.inner_text("#play") == "Play"
    page.click("#play")
    wait(page, "document.getElementById('play').textContent === 'Pause'")


def test_a_browser_that_cannot_inflate_shows_the_events(place, heard, visit):
    page = visit(place / "page.html", before="delete window.DecompressionStream")
    assert page.locator("#list button").count() == min(len(heard.events), 100)
    assert page.locator("#explore").is_hidden()


def test_pictures_are_decoded_where_one_looks(place, visit):
    count = """(() => { window.decoded = 0;
        const decode = HTMLImageElement.prototype.decode;
        HTMLImageElement.prototype.decode = function () {
            window.decoded++;
            return decode.call(this);
        };
    })()"""
    page = visit(place / "page.html", before=count)
    assert page.evaluate("window.decoded") == 1
    page.focus("#position")
    page.keyboard.press("End")
    assert page.evaluate("window.decoded") == 2


# Excerpts: where the page says that it is, in seconds of the recording.
NOW = "Number(document.getElementById('position').value)"
STATUS = "document.getElementById('status').textContent"
NOT_HERE = "The sound of this moment is not in this page."


def test_an_event_plays_its_excerpt_at_its_place_in_the_recording(excerpts, visit):
    page = visit(excerpts)
    assert "In this page 3 of 4 events have their sound" in page.inner_text("#excerpts-note")
    buttons = page.locator("#list button")
    names = [text.split("\n")[1] for text in buttons.all_inner_texts()]
    assert names == ["Dog", "Cat", "Speech", "Dog no sound"]
    buttons.nth(2).focus()
    page.keyboard.press("Enter")
    wait(page, f"{NOW} > 99.3")
    # The excerpt is that from 99 s on; the window moved there, and its cursor.
    page.click("#play")
    wait(page, "document.querySelector('audio').paused")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(3, abs=0.02)
    assert page.evaluate(NOW) == pytest.approx(99 + at(page), abs=0.06)
    assert 0 < page.evaluate(CURSOR) < 100
    page.click("#play")
    wait(page, "document.querySelector('audio').ended")
    assert page.inner_text("#time").startswith("0:01:42.0")
    assert page.inner_text("#play") == "Play"


def test_the_sound_changes_with_the_event(excerpts, visit):
    page = visit(excerpts)
    buttons = page.locator("#list button")
    buttons.nth(2).click()
    wait(page, f"{NOW} > 99.2")
    # While that plays: another excerpt, and an event within it, with what is before each.
    for event, begin, end in ((0, 29.0, 34.0), (1, 30.5, 34.0)):
        buttons.nth(event).click()
        assert begin <= page.evaluate(NOW) < begin + 0.5
        wait(page, f"{NOW} > {begin + 0.3}")
        assert page.evaluate(NOW) < end and not page.evaluate(STATUS)
        assert not page.evaluate("document.querySelector('audio').paused")
    # And one without: it is told, the sound stops, the cursor is where the event is.
    buttons.nth(3).click()
    assert page.evaluate(STATUS) == NOT_HERE
    assert page.evaluate("document.querySelector('audio').paused")
    page.wait_for_timeout(300)
    assert page.evaluate(NOW) == 150 and page.inner_text("#time").startswith("0:02:30.0")
    page.keyboard.press("p")
    page.keyboard.press("n")
    assert page.evaluate(STATUS) == f"Event 4 of 4: Dog, 0:02:30.0. {NOT_HERE}"


def test_seconds_without_sound_are_told_and_those_with_play(excerpts, visit):
    page = visit(excerpts)
    page.focus("#position")
    page.keyboard.press("Space")  # at the beginning there is none
    assert page.evaluate(STATUS) == NOT_HERE
    lane = page.locator("#window .track.sound canvas")
    assert lane.get_attribute("aria-label") == "Sound in the window: 0:00:29.0 to 0:00:34.0"
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate(NOW) == 30 and not page.evaluate(STATUS)
    page.keyboard.press("Space")
    wait(page, f"{NOW} > 30.4")
    assert at(page) > 1.3
    # From one excerpt into the other it plays on.
    page.evaluate("""() => {
        const position = document.getElementById("position");
        position.value = 99.5;
        position.dispatchEvent(new Event("input"));
    }""")
    wait(page, f"{NOW} > 99.8")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate(STATUS) == NOT_HERE
    assert page.evaluate("document.querySelector('audio').paused")


def test_without_a_script_each_excerpt_has_a_player(excerpts, visit):
    page = visit(excerpts, ready=False, java_script_enabled=False)
    players = page.locator("#excerpts audio")
    assert players.count() == 2 and players.first.is_visible()
    listed = [" ".join(text.split()) for text in page.locator("#excerpts li").all_inner_texts()]
    assert listed == ["0:00:29.0 – 0:00:34.0 Dog, Cat", "0:01:39.0 – 0:01:42.0 Speech"]
    assert "The rest of the recording is not in it." in page.inner_text("#excerpts-note")


def test_a_page_without_any_sound_says_so(visit, tmp_path):
    nothing = choose_excerpts([], [], seconds=60.0, most=600.0)
    heard = make_recording(60.0, bursts=0, audio=EmbeddedExcerpts(nothing, []))
    page = visit(write_recording_page(tmp_path / "page.html", heard))
    assert "0 of 0 events have their sound" in page.inner_text("#excerpts-note")
    assert page.locator("audio").count() == 0 and page.locator("#play").is_hidden()
    page.focus("#position")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(STATUS) == NOT_HERE


def test_the_cursor_is_painted_once_a_frame(excerpts, visit):
    """However often the player tells that time goes on."""
    count = """(() => { window.calls = {};
        const request = window.requestAnimationFrame;
        window.requestAnimationFrame = (call) => request((time) => {
            window.calls[time] = (window.calls[time] || 0) + 1;
            call(time);
        });
    })()"""
    page = visit(excerpts, before=count)
    page.locator("#list button").first.click()
    wait(page, f"{NOW} > 31")
    assert page.evaluate("Math.max(...Object.values(window.calls))") == 1


# Clips of a report

AT = "parseFloat(document.querySelector('.lanes.seeks').style.getPropertyValue('--at'))"
CLIP = "document.querySelector('.clip audio')"


def test_a_cursor_moves_over_a_clip_that_plays(report, visit):
    page = visit(report, ready=False)
    assert page.locator(".lanes.seeks").count() == 2 and page.locator(".seeking").is_visible()
    page.evaluate(f"{CLIP}.play()")
    wait(page, f"{AT} > 3")
    # Another begins, and this one stops.
    page.evaluate("document.querySelectorAll('.clip audio')[1].play()")
    wait(page, f"{CLIP}.paused")
    assert not page.evaluate(f"{CLIP}.ended")
    wait(page, f"Math.abs({AT} - 10 * {CLIP}.currentTime) < 0.1")


def test_the_picture_of_a_clip_seeks(report, visit):
    page = visit(report, ready=False)
    track = page.locator(".lanes.seeks .track").nth(1)
    width = track.bounding_box()["width"]
    track.click(position={"x": 0.4 * width, "y": 5})  # before anything of it is loaded
    assert page.evaluate(AT) == pytest.approx(40, abs=0.5)
    page.evaluate(f"{CLIP}.play()")
    wait(page, f"{AT} > 42")
    assert page.evaluate(AT) < 60
    page.evaluate(f"{CLIP}.pause()")
    picture = page.get_by_role("slider", name="Log-mel of soundscape").first
    for key, percent in (("Home", 0), ("ArrowRight", 10), ("ArrowRight", 20), ("ArrowLeft", 10)):
        picture.press(key)
        assert page.evaluate(AT) == pytest.approx(percent), key
    assert picture.get_attribute("aria-valuetext") == "1.0 of 10 seconds"
    picture.press("Space")
    wait(page, f"{AT} > 12")
    picture.press("Space")
    assert page.evaluate(f"{CLIP}.paused")
    picture.press("End")
    assert page.evaluate(AT) == pytest.approx(100, abs=0.3)


def test_clips_without_a_script_have_a_player(report, visit):
    page = visit(report, ready=False, java_script_enabled=False)
    assert page.locator(".clip audio").first.is_visible()
    assert page.locator("[role=slider], .mel[tabindex]").count() == 0
    assert page.locator(".seeking").is_hidden()

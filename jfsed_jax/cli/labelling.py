"""The command that labels recordings: predict."""

import argparse
import os
import signal
import stat
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from absl import logging

from jfsed_jax.atomic import write_whole
from jfsed_jax.cli import process
from jfsed_jax.cli.arguments import (
    CommandParser,
    names,
    number,
    output_file,
    output_folder,
    refuse_overwriting,
)
from jfsed_jax.cli.detection import define_detector
from jfsed_jax.errors import InputError

_LONGEST = 7 * 24 * 3600.0  # seconds that a header is believed, for the time that is left


def define_predict(parser: CommandParser) -> None:
    """Adds the flags of `run_predict`."""
    parser.require("--workdir", "Folder of the run.", metavar="DIR")
    define_detector(parser)
    parser.take(
        "AUDIO",
        "Recordings of any length and sample rate; folders of them; patterns as 'd/**/*.flac'.",
    )
    meaning = "Which of a run's config.num_seeds, counted from 0; default: %(default)s."
    parser.add("--seed", meaning, type=number(int, 0), metavar="K", default=0)
    meaning = (
        "Table to write, by its suffix TSV, CSV, JSON Lines (.jsonl) or parquet; "
        "default: TSV to standard output."
    )
    parser.add("--output", meaning, type=output_file(), metavar="FILE")
    parser.switch("resume", "Go on with an --output that was not finished.")
    meaning = (
        "Of the frame posteriors: a number, CLASS=NUMBER,... or a scores.json of evaluate "
        "--tune_thresholds; default: the config's."
    )
    parser.add("--threshold", meaning, metavar="T")
    parser.add("--classes", "Only these; default: all.", type=names(), metavar="A,B")
    parser.switch("overwrite", "Also where label files are, which may hold corrections.")
    meaning = "Also write label tracks for Audacity here, one a recording."
    parser.add("--audacity", meaning, type=output_folder(), metavar="DIR")
    meaning = "Also write selection tables for Raven here, one a recording."
    parser.add("--raven", meaning, type=output_folder(), metavar="DIR")
    meaning = "Also write posteriors here, one TSV a recording."
    parser.add("--save_scores", meaning, type=output_folder(), metavar="DIR")
    meaning = (
        "Also write a page to look at and listen to: a file for one recording, a folder for "
        "several."
    )
    parser.add("--page", meaning, type=_output_page, metavar="OUT.html")
    parser.switch("embed_audio", "Put the sound of recordings up to ten minutes into their pages.")


def run_predict(args: argparse.Namespace) -> int:
    """Labels what can be heard and names the rest."""
    from jfsed_jax.audio.finding import find_recordings
    from jfsed_jax.sed import predictions

    if not args.audio:
        raise InputError("no audio files: name one or more after the flags")
    if args.resume and not args.output:
        raise InputError("--resume goes on with an --output: name it too")
    if args.embed_audio and not args.page:
        raise InputError("--embed_audio is for a --page: name it too")
    found = find_recordings(args.audio)
    refuse_overwriting("output", args.output, found.paths)
    form = predictions.table_form(args.output or "")
    if found.others:
        logging.info("%d files of these folders are called like no recording", found.others)
    import numpy as np

    from jfsed_jax.cli.recording_files import RecordingFiles

    files = RecordingFiles(
        found.paths,
        audacity=args.audacity,
        raven=args.raven,
        scores=args.save_scores,
        page=args.page,
        embed_audio=args.embed_audio,
    )
    files.refuse_overwriting(args.output, labels=not (args.overwrite or args.resume))
    process.start_jax_as_trained(args.workdir)
    from jfsed_jax.inference.detector import load
    from jfsed_jax.inference.labelling import Journal, label_recordings, parse_thresholds
    from jfsed_jax.progress import progress_bar
    from jfsed_jax.training.interrupt import Interrupted, stop_on_signals

    detector = load(args.workdir, args.checkpoint, args.model, args.seed, tags=args.tags)
    front_end, page = detector.front_end, detector.config.postprocess
    classes = _chosen(args.classes, detector.classes)
    threshold = None
    if args.threshold:
        threshold = parse_thresholds(args.threshold, detector.classes, page.threshold)
    decode = detector.decoder(args.postprocess, threshold)  # what fails here fails once
    windows, thresholds = None, None
    if page.decoder == "median":
        windows = detector.windows(args.postprocess)
        value = page.threshold if threshold is None else threshold
        thresholds = np.broadcast_to(np.float64(value), len(detector.classes))
    made_by = {
        "folder": os.getcwd(),
        "workdir": str(detector.workdir.path.resolve()),
        "step": detector.step,
        "seed": detector.seed,
        "model": detector.model,
        "tags": detector.tags,
        "postprocess": args.postprocess or page.rule,
        "threshold": np.asarray(page.threshold if threshold is None else threshold).tolist(),
        "classes": list(classes),
        "other outputs": [args.audacity, args.raven, args.save_scores, args.page],
    }
    failures, low_rates = dict(found.problems), []
    with ExitStack() as stack:
        journal = None
        if args.output and _may_have_journal(args.output):
            journal = stack.enter_context(Journal(args.output, made_by, resume=args.resume))
        done = dict(journal.done) if journal else {}
        todo = [path for path in found.paths if path not in done]
        if done:
            logging.info("%d of %d recordings are done", len(done), len(found.paths))
        if not args.output:
            _show(predictions.format_predictions([], []))
        stop = stack.enter_context(stop_on_signals())
        total = round(sum(map(_promised, todo)))
        bar = stack.enter_context(progress_bar(total=total, desc="labelled", unit=" s of sound"))
        begun, seconds = time.monotonic(), 0.0

        def advance(more: float) -> None:
            nonlocal seconds
            seconds += more
            bar.update(round(seconds) - bar.n)
            if stop.signum is not None:
                raise Interrupted("", stop.signum)

        def add_mel(path: str, mel) -> None:
            files.add_mel(path, mel, front_end.frame_rate)

        def write_table() -> None:
            if args.output:
                # What was labelled before and is not named now stays.
                in_order = [
                    done[path] for path in dict.fromkeys([*found.paths, *done]) if path in done
                ]
                write_whole(Path(args.output), _rows(in_order, form=form))

        on_mel = add_mel if files.wants_mel else None
        try:
            listeners = {"on_mel": on_mel, "on_seconds": advance}
            for heard, labelled in label_recordings(detector, todo, decode, classes, **listeners):
                if labelled is None:
                    files.forget(heard.path)
                    failures[heard.path] = str(heard.failure).removeprefix(f"{heard.path}: ")
                    logging.error("%s", heard.failure)
                    continue
                if (heard.sample_rate or 0) < 2 * front_end.fmax:
                    low_rates.append(heard.path)
                try:
                    files.write(detector, heard, labelled, windows, thresholds)
                except InputError as error:
                    files.forget(heard.path)
                    failures[heard.path] = str(error)
                    logging.error("%s", error)
                    continue
                done[heard.path] = labelled
                if journal:
                    journal.add(labelled)
                if not args.output:
                    _show(_rows([labelled], header=False))
                bar.set_postfix_str(f"{len(done)}/{len(found.paths)} recordings", refresh=False)
        except KeyboardInterrupt as error:
            write_table()
            again = "; the same command with --resume goes on" if journal else ""
            raise Interrupted(
                f"stopped, {len(done)} of {len(found.paths)} recordings are labelled{again}",
                getattr(error, "signum", signal.SIGINT),
            ) from error
        bar.close()
        passed = max(time.monotonic() - begun, 1e-3)
        logging.info(
            "%.2f hours of sound in %.0f s, %.0f times real time",
            *(seconds / 3600, passed, seconds / passed),
        )
        write_table()
        if journal:
            journal.finish(whole=not failures)
    if low_rates:
        logging.warning(
            "%d recordings, the first %s, are sampled at less than the %g Hz that the model was "
            "trained on: what lies above half their rate is silence to it",
            *(len(low_rates), low_rates[0], 2 * detector.front_end.fmax),
        )
    if failures:
        for name, reason in failures.items():
            print(f"{name}\t{reason}", file=sys.stderr)
        count = len(found.paths) + len(found.problems)
        raise InputError(f"{len(failures)} of {count} files could not be used, see above")
    return 0


def _output_page(text: str) -> str:
    return (output_file() if text.endswith(".html") else output_folder())(text)


def _chosen(wanted: list[str] | None, classes: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in wanted or () if name not in classes]
    if unknown:
        raise InputError(
            f"--classes: no class {', '.join(unknown)}; expected some of {', '.join(classes)}"
        )
    return tuple(name for name in classes if not wanted or name in wanted)


def _may_have_journal(output: str) -> bool:
    """Whether it is a file, and no pipe or device."""
    try:
        return stat.S_ISREG(os.stat(output).st_mode)
    except OSError:
        return True


def _promised(path: str) -> float:
    """Seconds as a header has them, for the time that is left."""
    import soundfile

    from jfsed_jax.audio.decoding import check_file

    try:
        check_file(path)
        seconds = soundfile.info(os.fsencode(path)).duration
    except (InputError, OSError, RuntimeError, TypeError):
        return 0.0
    return seconds if seconds < _LONGEST else 0.0


def _rows(labelled, *, form: str = "tsv", header: bool = True) -> bytes:
    from jfsed_jax.sed.predictions import format_predictions

    return format_predictions(
        [event for one in labelled for event in one.events],
        [sure for one in labelled for sure in one.confidences],
        filenames=[one.path for one in labelled],
        form=form,
        header=header,
    )


def _show(table: bytes) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(table.decode().encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()

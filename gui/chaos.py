"""`python -m gui.chaos`: what can go wrong goes wrong while hands without a mind click on everything.

In this order, spread over the time: a film is begun and the engine's thread killed under it; the engine is started again as
a person would; the microphone is pulled out and given back; a film fills its disk; a pack that was tampered with is
imported. Meanwhile 50 random clicks and drags a second. Good is: no crash, no error in a slot, no hang, the face goes on,
and both films play. Settings and films live in a scratch folder.
"""

import faulthandler
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
import tyro
from PyQt6.QtCore import QTimer
from PyQt6.QtWidgets import QApplication, QMessageBox, QWidget

from engine import Avatar, MouthpieceError, default_avatar, open_avatar
from engine.start import SAMPLE
from gui.app import leave_if_stuck
from gui.bench import write_report
from gui.bridge import Bridge
from gui.monkey import Monkey
from gui.settings import Settings
from gui.state import View
from gui.window import Window

STEPS = 10
PATIENCE_S = 90.0  # how long something may take to come true: a busy machine is slow, a fault never ends
HANG_S = 60.0  # an event loop that stands still for so long hangs: the process ends with the stacks of all threads
ROOM_BYTES = 1_000_000  # what is left on the disk that fills up: some seconds of film
BOXES_KEPT = 6  # message boxes left open for the hands; older ones are closed


@dataclass(frozen=True)
class Arguments:
    """Maltreats the desktop app. Exit status: 0 it bore it, 1 it did not.

    Example: xvfb-run -a python -m gui.chaos --seconds 120 --report chaos.json
    """

    seconds: float = 120.0
    rate: float = 50.0
    """Clicks and drags a second."""
    seed: int = 0
    mic: str = str(SAMPLE)
    """Microphone's name, or a sound file in its place."""
    unplug: str = ""
    """Shell command that takes the microphone away, such as `tests/beds/audio_bed.sh unplug`; without one the app is
    made to ask for a microphone that is not there."""
    plug: str = ""
    """Shell command that gives it back."""
    small_disk: Path | None = None
    """A folder on a disk of some megabytes, such as a tmpfs; without one a limit on file sizes stands for it."""
    avatar: Path | None = None
    """An avatar pack; the bundled one if not given."""
    report: Path | None = None
    """Write the findings here as JSON too."""


@dataclass(frozen=True)
class Step:
    """Something that happens, and whether what must come of it has come."""

    words: str
    deed: Callable[[], None]
    came: Callable[[], bool]


class Trial:
    """The app, the hands, and what happens to it when. All on Qt's thread."""

    def __init__(self, arguments: Arguments, avatar: Avatar, scratch: Path) -> None:
        self.arguments, self.avatar, self.scratch = arguments, avatar, scratch
        self.errors: list[str] = []
        self.told: list[str] = []
        self.marks: dict[str, bool] = {}
        self.longest_gap_ms = 0.0
        self.bridge = Bridge(Settings(first_run_done=True, intent={"mic": arguments.mic}))
        self.bridge.message.connect(lambda title, words: self.told.append(f"{title}: {words}"))
        self.window = Window(self.bridge)
        self.monkey = Monkey(arguments.seed, self.window.record)  # what is recorded is the story's, not theirs
        self.window.show()
        self.bridge.open(avatar)
        self._beat_s = self._began_s = time.monotonic()
        self._over = self._engine_died = False
        self.bridge.view_changed.connect(self._look_at)
        self._painted = 0

    # --- time
    def run(self, app: QApplication) -> None:
        """Runs the trial to its end."""
        sys.excepthook = lambda kind, error, trace: self.errors.append(
            "".join(traceback.format_exception(kind, error, trace))[-3000:]
        )
        self._beat()
        self._watch(iter(self.story()), None, app)
        app.exec()
        self._over = True
        faulthandler.cancel_dump_traceback_later()

    def story(self) -> tuple["Step", ...]:
        """What happens, in order, and what must come of it."""
        return (
            Step("the face comes", lambda: None, lambda: self.window.preview.painted > 0),
            Step("the hands begin, and a film", self.begin, lambda: self.bridge.report.recording_s > 1.0),
            Step("a dead engine is told", self.kill_engine, self.died),
            Step(
                "a recording is not said to go on without an engine",
                lambda: None,
                lambda: not self.bridge.intent.recording and self.window.preview.picture().size > 0,
            ),
            Step("it starts again", self.restart, lambda: self.bridge.report.alive),
            Step("a lost microphone is told", self.unplug, lambda: self._was_told("icrophone")),
            Step("it is given back", self.plug, self.heard),
            Step("a full disk is told", self.fill_disk, lambda: self._was_told("ecording failed")),
            Step("a tampered pack is refused", self.import_tampered, lambda: self._was_told("size and digest")),
            Step("the face goes on", self.count, lambda: self.window.preview.painted > self._painted + 10),
        )

    def _watch(self, story: Iterator["Step"], now: "Step | None", app: QApplication, began_s: float = 0.0) -> None:
        """Goes on to the next step when this one has had its share of the time and has come true, or never will. What
        came true once counts: the hands may undo it the next moment, as by a click on "Start again".
        """
        lasted_s = time.monotonic() - began_s
        came = now is None or self.marks.get(now.words, False) or now.came()
        if now is not None:
            self.marks[now.words] = came
        if now is not None and (lasted_s < self.arguments.seconds / STEPS or not came) and lasted_s < PATIENCE_S:
            QTimer.singleShot(50, lambda: self._watch(story, now, app, began_s))
            return
        after = next(story, None)
        if after is None:
            self.finish(app)
            return
        QTimer.singleShot(0, lambda: self._watch(story, after, app, time.monotonic()))
        after.deed()

    def _look_at(self, view: View) -> None:
        self._engine_died = self._engine_died or view.engine_failed

    def _was_told(self, words: str) -> bool:
        return any(words in line for line in (*self.told, *self.bridge.view.notices, *self.bridge.journal.events))

    def _act(self) -> None:
        """Schedules the next deed before this one, which may open a dialog that has an event loop of its own."""
        if not self._over:
            QTimer.singleShot(round(1000 / self.arguments.rate), self._act)
            self.monkey.act()

    def _beat(self) -> None:
        if self._over:
            return
        QTimer.singleShot(50, self._beat)
        now_s = time.monotonic()
        self.longest_gap_ms = max(self.longest_gap_ms, 1000 * (now_s - self._beat_s) - 50)
        self._beat_s = now_s
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        boxes = [w for w in QApplication.topLevelWidgets() if isinstance(w, QMessageBox) and w.isVisible()]
        for box in boxes[:-BOXES_KEPT]:
            box.close()

    # --- what goes wrong
    def begin(self) -> None:
        self._began_s = time.monotonic()
        self.bridge.start_recording(str(self.scratch / "first.mp4"))
        self._act()

    def kill_engine(self) -> None:
        engine = self.bridge._engine

        def die(*_: object) -> float:
            raise RuntimeError("killed on purpose")

        if engine is not None:
            engine._inference.step = die  # type: ignore[method-assign, assignment]

    def died(self) -> bool:
        """Whether the window has shown it; an engine that the hands had changed in that moment is killed again."""
        if not self._engine_died:
            self.kill_engine()
        return self._engine_died

    def restart(self) -> None:
        if self.bridge.view.engine_failed:  # the hands may have done it
            self.window._restart()

    def unplug(self) -> None:
        self.bridge.act({"mic": self.arguments.mic if self.arguments.unplug else "a microphone that is not there"})
        if self.arguments.unplug:
            subprocess.run(self.arguments.unplug, shell=True, check=False, timeout=15)

    def plug(self) -> None:
        if self.arguments.plug:
            subprocess.run(self.arguments.plug, shell=True, check=False, timeout=15)
        self.bridge.act({"mic": self.arguments.mic})

    def heard(self) -> bool:
        """Whether the microphone that was given back is heard; the hands may have chosen another in between."""
        self.bridge.act({"mic": self.arguments.mic})
        return self.bridge.report.mic_ok

    def fill_disk(self) -> None:
        folder = self.arguments.small_disk or self.scratch / "limited"
        if self.arguments.small_disk is None:
            _limit_files(ROOM_BYTES)
        else:
            ballast = max(0, shutil.disk_usage(folder).free - ROOM_BYTES)
            (folder / "ballast").write_bytes(bytes(ballast))
        self.bridge.start_recording(str(folder / "second.mp4"))

    def import_tampered(self) -> None:
        if self.arguments.small_disk is None:
            _limit_files(None)
        broken = self.scratch / "broken.avatar"
        shutil.copytree(self.avatar.path, broken)
        graph = broken / self.avatar.manifest.graphs.frame_decoder.file
        data = bytearray(graph.read_bytes())
        data[len(data) // 2] ^= 1
        graph.write_bytes(bytes(data))
        self.bridge.import_avatar(str(broken))

    def count(self) -> None:
        self._painted = self.window.preview.painted

    # --- the end
    def finish(self, app: QApplication) -> None:
        self._over = True
        self.marks["the tampered pack is not shown"] = self.bridge.settings.avatar == ""
        self.bridge.intent = replace(self.bridge.intent, recording="")
        self._dismiss(QApplication.activePopupWidget(), QApplication.activeModalWidget())
        for widget in QApplication.topLevelWidgets():
            widget.close()
        app.quit()

    @staticmethod
    def _dismiss(*open_now: QWidget | None) -> None:
        for widget in open_now:
            if widget is not None:
                widget.close()

    def findings(self) -> dict[str, object]:
        films = {
            "the film under the killed engine plays": _film(self.scratch, "first"),
            "the film on the full disk plays": _film(self.arguments.small_disk or self.scratch / "limited", "second"),
        }
        marks = {**self.marks, **{words: frames >= 2 for words, frames in films.items()}}
        return {
            "good": all(marks.values()) and not self.errors,
            "deeds": self.monkey.deeds,
            "seconds": round(time.monotonic() - self._began_s, 1),
            "marks": marks,
            "film_frames": films,
            "longest_gap_ms": round(self.longest_gap_ms),
            "messages": len(self.told),
            "errors": self.errors[:5],
            "journal": list(self.bridge.journal.events)[-40:],
        }


def _limit_files(most_bytes: int | None) -> None:
    """No file of this process may grow beyond `most_bytes`: the system refuses the write where a full disk would."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if most_bytes is None else most_bytes, hard))


def _film(folder: Path, stem: str) -> int:
    """Pictures that can be decoded from the longest of the films called so, whole or broken off."""
    return max((_pictures(path) for path in folder.glob(f"{stem}*.mp4")), default=0)


def _pictures(path: Path) -> int:
    """Pictures that come out; a broken packet at the end costs itself only, as in a player."""
    count = 0
    with suppress(av.error.FFmpegError), av.open(str(path)) as container:
        stream = container.streams.video[0]
        with suppress(av.error.FFmpegError):
            for packet in container.demux(stream):
                if packet.size:
                    with suppress(av.error.FFmpegError):
                        count += len(packet.decode())
        count += len(stream.codec_context.decode(None))
    return count


def main() -> int:
    """Prints the findings as JSON; returns the exit status."""
    arguments = tyro.cli(Arguments, prog="python -m gui.chaos")
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="mouthpiece-chaos-") as folder:
        scratch = Path(folder)
        (scratch / "limited").mkdir()
        os.environ["MOUTHPIECE_CONFIG"] = str(scratch / "config")
        os.environ["HOME"] = folder  # file dialogs start there
        app = QApplication(sys.argv[:1])
        try:
            avatar = open_avatar(arguments.avatar or default_avatar())
        except MouthpieceError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        trial = Trial(arguments, avatar, scratch)
        trial.run(app)
        found = trial.findings()
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.report:
        write_report(arguments.report, text)
    status = 0 if found["good"] else 1
    leave_if_stuck(trial.bridge, status)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""The inference worker: every sample to the encoder, the newest due frame through decoder and composer to the slot."""

from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animator import Animator, Frame
from engine.audio.capture import Capture
from engine.audio.keeper import SoundKeeper
from engine.avatar import Avatar
from engine.compose import Composer
from engine.controls import Background, Controls, SmoothedControls
from engine.errors import ControlError, MouthpieceError
from engine.pacing import FRAME_RATE, RATE, Pacer
from engine.session import LiveFrame, Session

POLL_S = 0.002
WARM_UP_FRAMES = 8
GRID_SAMPLES = 1600  # hops and frames meet every 100 ms: where a new avatar may begin


class Inference:
    """Stateful stages never skip, stateless ones may: the encoder hears every hop, the decoder draws only the newest
    due frame. Everything here, graphs included, is made, used and freed on the inference thread; only composing a frame
    that is drawn happens beside it, on `aside`, one frame at a time.
    """

    def __init__(
        self, session: Session, capture: Capture, keeper: SoundKeeper, pacer: Pacer, aside: Executor | None = None
    ) -> None:
        # Inference, composing and the camera have a thread each; OpenCV's own would only wait for a free core.
        self._threads_before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        self._aside = aside or ThreadPoolExecutor(1, thread_name_prefix="compose")
        self._finishing: Future[None] | None = None
        self._session, self._capture, self._keeper, self._pacer = session, capture, keeper, pacer
        self._composer = Composer(session.width, session.height)
        self._background = Background()
        self._smooth = SmoothedControls(session.controls)
        self._animator: Animator | None = None
        self._shown: tuple[Avatar, str] | None = None
        self._deaf_samples = 0  # not to be heard, so that a new avatar begins on the grid
        self._first_frame = 0  # stream index of the present animator's frame 0

    def step(self, now_s: float) -> float:
        """One turn. Raises what the back end raises: without it there is no face."""
        session, ledger = self._session, self._session.ledger
        animator = self._present_animator()
        now_s = began_s = session.now()
        samples = self._capture.pull(now_s)
        if not len(samples):
            return now_s + POLL_S
        self._pass_on(now_s)
        taken_s = session.now()
        deaf = min(self._deaf_samples, len(samples))
        self._deaf_samples -= deaf
        animator.push(samples[deaf:])
        ledger.intake.add(1000 * (taken_s - began_s))
        ledger.encode.add(1000 * (session.now() - taken_s))
        if self._choose(animator):
            self._draw(animator)
        return now_s + POLL_S

    def _present_animator(self) -> Animator:
        """The animator for the avatar and back end that are wanted now."""
        session = self._session
        wanted = (session.avatar, session.backend)
        if self._animator is not None and wanted == self._shown:
            return self._animator
        avatar, backend = wanted
        person = session.controls.person
        try:
            fresh = Animator(avatar, person if person in avatar.people else None, backend)
        except MouthpieceError as error:
            if self._animator is None or self._shown is None:
                raise
            # The face that works stays; the wish is taken back and the reason told.
            session.say("avatar refused", str(error))
            session.avatar, session.backend = self._shown
            return self._animator
        self._warm_up(fresh)
        if self._animator is None:
            # Stream time begins when there are ears: what was said while the graphs were loading is not heard.
            session.clock.anchor(0, session.now())
        self._let_go()
        self._animator, self._shown = fresh, wanted
        start = -(-self._capture.position // GRID_SAMPLES) * GRID_SAMPLES
        self._deaf_samples = start - self._capture.position
        self._first_frame = start * FRAME_RATE // RATE
        self._pacer.lookahead_samples = avatar.lookahead_hops * avatar.manifest.audio.hop_samples
        session.running_on = fresh.backend
        return fresh

    def _warm_up(self, animator: Animator) -> None:
        """Draws a few frames for nobody: back ends settle during their first runs, and those would all be late."""
        for _ in range(WARM_UP_FRAMES):
            animator.push(np.zeros(GRID_SAMPLES, np.float32))
            animator.skip_to_newest()
            if animator.frames_due():
                frame = animator.next_frame(Controls())
                self._composer.compose(frame.rgba, self._background, Controls().framing)
        animator.reset()

    def _pass_on(self, now_s: float) -> None:
        monitor, recording = self._keeper.monitor, self._session.recording
        late_s = now_s - self._session.clock.time_of(self._capture.entered)
        for heard in self._capture.heard:
            if monitor is not None:
                monitor.push(heard.samples, heard.rate, late_s)
            if recording is not None:
                recording.offer_sound(heard)

    def _choose(self, animator: Animator) -> bool:
        """Whether to draw: due frames that a newer one replaces are passed over, as is a newest that no tick shows."""
        due = animator.frames_due()
        first = self._first_frame + animator.next_index
        if not due or not self._pacer.wants(first + due - 1):
            return False
        animator.skip_to_newest()
        self._session.ledger.dropped += sum(map(self._pacer.wants, range(first, first + due - 1)))
        return True

    def _draw(self, animator: Animator) -> None:
        session, ledger = self._session, self._session.ledger
        asked = session.controls
        if asked.person not in animator.avatar.people:
            asked = replace(asked, person=None)
        began_s = session.now()
        index = self._first_frame + animator.next_index
        controls = self._smooth.at(index / FRAME_RATE, asked)
        frame = animator.next_frame(controls)
        session.heard_person = animator.person if asked.person_from_voice else None
        ledger.drawn += 1
        ledger.decode.add(1000 * (session.now() - began_s))
        newest = frame.newest_sample + self._first_frame * RATE // FRAME_RATE
        if self._finishing is not None:
            self._finishing.result()  # one frame at most is on its way; what went wrong with it is raised here
        self._finishing = self._aside.submit(self._finish, frame, index, newest, controls)

    def _finish(self, frame: Frame, index: int, newest_sample: int, controls: Controls) -> None:
        """Composes and hands on, beside the inference thread: the next frame's graphs need not wait for it."""
        session = self._session
        began_s = session.now()
        picture = self._compose(frame.rgba, controls)
        ready_s = session.now()
        session.to_camera.put(LiveFrame(picture, index, newest_sample, ready_s, frame.expression))
        if (recording := session.recording) is not None:
            recording.offer_frame(index, picture)
        session.ledger.compose.add(1000 * (ready_s - began_s))

    def _compose(self, rgba: NDArray[np.uint8], controls: Controls) -> NDArray[np.uint8]:
        try:
            picture = self._composer.compose(rgba, controls.background, controls.framing, controls.mirror)
        except ControlError as error:
            self._session.say("background refused", str(error))
            self._session.controls = replace(self._session.controls, background=self._background)
            return self._composer.compose(rgba, self._background, controls.framing, controls.mirror)
        self._background = controls.background
        return picture

    def close(self) -> None:
        """Frees the graphs and ends the thread beside this one."""
        self._let_go()
        self._aside.shutdown()
        cv2.setNumThreads(self._threads_before)

    def _let_go(self) -> None:
        if self._finishing is not None:
            wait([self._finishing])
        if self._animator is not None:
            self._animator.close()
            self._animator = None

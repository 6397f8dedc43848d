"""The camera worker: one frame a tick, new or again, whatever else happens. It never waits for inference."""

from engine.errors import OutputError
from engine.outputs.null import NullCamera
from engine.outputs.virtual_camera import Camera
from engine.pacing import GRACE_S, Pacer
from engine.session import LiveFrame, Session

LOOK_AGAIN_S = 0.001
BEFORE_FIRST_S = 0.005  # the graphs are still being loaded; there is nothing to show yet
RETRY_S = 1.0
SMOOTHING = 0.05


class CameraFeed:
    """Paces frames to the camera and to the preview. A camera that is lost is opened again; meanwhile frames go
    nowhere.

    `step` and `close` belong to the camera thread; `camera_ok`, `message` and `name` may be read by any.
    """

    def __init__(self, session: Session, pacer: Pacer) -> None:
        self._session, self._pacer = session, pacer
        self._nowhere = NullCamera(session.width, session.height)
        self._camera: Camera = self._nowhere
        self._opened = "none"
        self._retry_s = 0.0
        self._shown: LiveFrame | None = None
        self._fresh: LiveFrame | None = None
        self.camera_ok = True
        self.message = ""

    @property
    def name(self) -> str:
        """The camera that frames go to now."""
        return self._camera.name

    def step(self, now_s: float) -> float:
        """Sends the frame of the present tick if it is due; returns when to look again."""
        self._tend(now_s)
        if self._session.to_camera.peek() is None:
            return now_s + BEFORE_FIRST_S
        due_s = self._pacer.due_s(now_s)
        if now_s < due_s:
            return due_s
        assert self._pacer.tick is not None, "due_s starts the ticks"
        self._fresh = self._session.to_camera.take() or self._fresh
        on_time = self._fresh is not None and self._fresh.index >= self._pacer.frame_of(self._pacer.tick)
        if not on_time and now_s < due_s + GRACE_S:
            return min(now_s + LOOK_AGAIN_S, due_s + GRACE_S)
        fresh, self._fresh = self._fresh, None
        self._shown = fresh or self._shown
        if self._shown is not None:
            self._hand_over(self._shown, fresh is not None, on_time)
        self._pacer.advance(fresh.ready_s if fresh else None)
        return self._session.now()

    def _hand_over(self, frame: LiveFrame, new: bool, on_time: bool) -> None:
        session, ledger = self._session, self._session.ledger
        began_s = session.now()
        try:
            self._camera.send(frame.picture)
        except OutputError as error:
            self._lose(str(error), began_s)
        handed_s = session.now()
        session.preview.put(frame)
        ledger.frames += 1
        ledger.first_frame_s = ledger.first_frame_s or handed_s
        ledger.last_frame_s = handed_s
        ledger.late += not on_time
        ledger.send.add(1000 * (handed_s - began_s))
        ledger.camera_rate.tick(handed_s)
        if new:
            ledger.latency.add(1000 * (handed_s - session.clock.time_of(frame.newest_sample)))
            delay_s = handed_s - session.clock.time_of(frame.index * 16000 / 30)
            session.video_delay_s += (SMOOTHING if session.video_delay_s else 1.0) * (delay_s - session.video_delay_s)

    def _tend(self, now_s: float) -> None:
        """Opens the camera that is wished for, again and again while it is not there."""
        wished = self._session.camera_name
        if wished != self._opened:
            self._drop()
            self._opened, self._retry_s, self.message = wished, now_s, ""
            self.camera_ok = wished == "none"
        if self.camera_ok or now_s < self._retry_s:
            return
        try:
            self._camera = self._session.open_camera(wished)
        except OutputError as error:
            if not self.message:
                self._session.say("camera not available", str(error))
            self.message, self._retry_s = str(error), self._session.now() + RETRY_S
            return
        self.camera_ok, self.message = True, ""
        self._session.say("camera open", f"sending to {self._camera.name}")

    def _lose(self, reason: str, now_s: float) -> None:
        self._session.say("camera lost", reason)
        self._drop()
        self.camera_ok, self.message, self._retry_s = False, reason, now_s + RETRY_S

    def _drop(self) -> None:
        camera, self._camera = self._camera, self._nowhere
        camera.close()

    def close(self) -> None:
        """Gives the camera back."""
        self._drop()

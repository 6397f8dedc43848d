"""Files in and out of the window: films, pictures of the face, speech to say, avatars; chosen in a dialog or dropped."""

import time
from pathlib import Path

from PyQt6.QtGui import QImage
from PyQt6.QtWidgets import QFileDialog, QWidget

from gui import messages
from gui.bridge import Bridge
from gui.preview import Picture, Preview

SPEECH = "Speech (*.wav *.flac *.mp3 *.opus *.ogg *.m4a *.mp4)"


class Files:
    """Asks which file, over `window`, and passes the wish on."""

    def __init__(self, window: QWidget, bridge: Bridge, preview: Preview) -> None:
        self._window, self._bridge, self._preview = window, bridge, preview

    def toggle_record(self) -> None:
        if self._bridge.intent.recording:
            self._bridge.stop_recording()
            return
        path, _ = QFileDialog.getSaveFileName(self._window, "Record to", _named(".mp4"), "Video (*.mp4)")
        if path:
            self._bridge.start_recording(path)

    def save_snapshot(self) -> None:
        if not self._preview.picture().size:
            return
        path, _ = QFileDialog.getSaveFileName(self._window, "Save picture", _named(".png"), "Picture (*.png)")
        if path and not write_picture(self._preview.picture(), path):
            messages.tell(
                self._window,
                "Snapshot",
                f"The picture could not be written to {path}. Is the folder there and the disk not full?",
            )

    def speak(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self._window, "Speak a file", "", SPEECH)
        if path:
            self._bridge.speak(path)

    def import_avatar(self) -> None:
        path = QFileDialog.getExistingDirectory(self._window, "The folder of the avatar (name.avatar)")
        if path:
            self._bridge.import_avatar(path)

    def dropped(self, path: str) -> None:
        """A pack is imported, anything else is spoken."""
        if path.endswith(".avatar"):
            self._bridge.import_avatar(path)
        elif path:
            self._bridge.speak(path)


def write_picture(picture: Picture, path: str) -> bool:
    """Writes `[H, W, 3]` uint8 RGB as PNG, marked as synthetic; False when it could not be written."""
    height, width = picture.shape[:2]
    image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    image.setText("Comment", "Synthetic picture made with Mouthpiece; no camera was used")
    return image.save(path, "PNG")


def _named(suffix: str) -> str:
    return str(Path.home() / time.strftime(f"mouthpiece-%Y%m%d-%H%M%S{suffix}"))

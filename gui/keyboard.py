"""The keys of the looks, and one for Mute, taken from every window where the person wants that and the platform lets it."""

from collections.abc import Callable

from PyQt6.QtWidgets import QApplication

from gui import hotkeys
from gui.bridge import Bridge
from gui.presets import PresetPanel

MUTE_EVERYWHERE = "Ctrl+Alt+M"


class KeysEverywhere:
    """Taken as the settings say; `take` again whenever the looks change. `tell` shows what could not be had."""

    def __init__(self, bridge: Bridge, panel: PresetPanel, tell: Callable[[str, str], None]) -> None:
        self._bridge, self._panel, self._tell = bridge, panel, tell
        self._keys: hotkeys.X11Keys | hotkeys.WindowsKeys | None = None
        self._obstacle = hotkeys.obstacle(QApplication.platformName())
        panel.everywhere_wished.connect(self.take)
        bridge.presets_changed.connect(lambda _: self.take(bridge.settings.keys_everywhere))
        self.take(bridge.settings.keys_everywhere)

    def take(self, everywhere: bool) -> None:
        """Takes the keys from every window, or gives them back."""
        self._bridge.settings.keys_everywhere = everywhere
        self._panel.show_everywhere(everywhere, self._obstacle)
        self.close()
        if not everywhere or self._obstacle:
            return
        wanted = {p.hotkey: f"preset:{p.name}" for p in self._bridge.settings.presets if p.hotkey}
        try:
            self._keys = hotkeys.take_keys(self._pressed, {**wanted, MUTE_EVERYWHERE: "toggle:muted"})
        except OSError as error:
            self._tell("Keys", str(error))
            return
        if self._keys.complaints:
            self._tell("Keys", "\n".join(self._keys.complaints))

    def close(self) -> None:
        """Gives the keys back; what is remembered stays."""
        if self._keys is not None:
            self._keys.close()
            self._keys = None

    def _pressed(self, word: str) -> None:
        """The keys' own thread."""
        self._bridge.from_outside(*word.split(":", 1))

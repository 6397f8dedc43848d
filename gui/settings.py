"""Settings and presets in the platform's own place, as JSON, written atomically; damaged files are set aside, never fatal."""

import json
import os
import time
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gui.state import LOOK_FIELDS, Intent, change, look_of

APP = "mouthpiece"
REMEMBERED = (*LOOK_FIELDS, "mirror", "mic", "monitor", "camera", "backend", "quality")


class Preset(BaseModel):
    """A saved look: name, optional key sequence (such as `Ctrl+Alt+1`) and the settings it recalls."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=60)
    hotkey: str = ""
    look: dict[str, Any]

    def apply(self, intent: Intent) -> Intent:
        """`intent` wearing this look; devices and what is running stay. Raises ValueError on unknown settings."""
        return change(intent, **{k: v for k, v in self.look.items() if k in LOOK_FIELDS})


class Settings(BaseModel):
    """What the app remembers between starts."""

    model_config = ConfigDict(extra="ignore")
    intent: dict[str, Any] = Field(default_factory=dict)
    presets: list[Preset] = Field(default_factory=list)
    avatar: str = ""
    geometry: str = ""
    page: int = Field(default=0, ge=0)
    theme: str = "system"
    first_run_done: bool = False
    keys_everywhere: bool = False
    osc_port: int = 0
    midi_port: str = ""
    midi_map: dict[int, str] = Field(default_factory=dict)

    def restored_intent(self) -> Intent:
        """The remembered wishes; a value that no longer fits falls back to its default."""
        intent = Intent()
        for name, value in self.intent.items():
            if name in REMEMBERED:
                try:
                    intent = change(intent, **{name: value})
                except (ValueError, TypeError):
                    continue
        return intent

    def remember(self, intent: Intent) -> None:
        self.intent = {name: getattr(intent, name) for name in REMEMBERED}

    def preset(self, name: str) -> Preset | None:
        """The saved look of that name, if there is one."""
        return next((preset for preset in self.presets if preset.name == name), None)

    def keep(self, preset: Preset) -> None:
        """Saves a look, in place of one of the same name."""
        self.presets = [*(p for p in self.presets if p.name != preset.name), preset]

    def forget(self, name: str) -> None:
        self.presets = [preset for preset in self.presets if preset.name != name]


def settings_path() -> Path:
    """Where settings live; the environment variable MOUTHPIECE_CONFIG names another folder."""
    folder = os.environ.get("MOUTHPIECE_CONFIG") or platformdirs.user_config_dir(APP, appauthor=False)
    return Path(folder) / "settings.json"


def load(path: Path) -> tuple[Settings, str]:
    """(settings, a line for the person if something was wrong). A damaged file is kept beside under another name."""
    try:
        return Settings.model_validate_json(path.read_bytes()), ""
    except FileNotFoundError:
        return Settings(), ""
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        aside = path.with_name(f"settings.damaged-{int(time.time())}.json")
        try:
            os.replace(path, aside)
        except OSError:
            return Settings(), f"Settings could not be read ({error.__class__.__name__}); starting with the defaults."
        return (
            Settings(),
            f"Settings could not be read; starting with the defaults. The old file is kept as {aside.name}.",
        )


def save(settings: Settings, path: Path) -> str:
    """Writes atomically; returns an empty string, or what went wrong in one line."""
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(settings.model_dump(), indent=1), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        if temporary.is_file():
            temporary.unlink()
        return f"Settings could not be saved to {path.parent}: {error.strerror or error}"
    return ""


def preset_from(intent: Intent, name: str, hotkey: str = "") -> Preset:
    """A preset of the look that `intent` wears now."""
    return Preset(name=name, hotkey=hotkey, look=look_of(intent))

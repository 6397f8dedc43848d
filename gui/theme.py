"""Light and dark: two small palettes and the style sheet made from them."""

from dataclasses import dataclass
from pathlib import Path

from PyQt6.QtGui import QColor, QGuiApplication, QPalette
from PyQt6.QtWidgets import QApplication


@dataclass(frozen=True)
class Colours:
    window: str
    panel: str
    line: str
    text: str
    quiet: str
    accent: str
    on_accent: str
    field: str
    alert: str
    on_alert: str
    good: str


LIGHT = Colours(
    "#f4f5f7",
    "#ffffff",
    "#d9dde3",
    "#1c2128",
    "#5d6673",
    "#2f6fdd",
    "#ffffff",
    "#eef0f3",
    "#c92f3c",
    "#ffffff",
    "#17743f",
)
DARK = Colours(
    "#16191d",
    "#1f2328",
    "#333a43",
    "#e8eaed",
    "#98a2af",
    "#5b93f5",
    "#0c1016",
    "#2a3037",
    "#ff6b74",
    "#16070a",
    "#4cc38a",
)

ASSETS = Path(__file__).parent / "assets"
_SHEET = """
* {{ font-size: 13px; }}
QWidget#window, QScrollArea, QScrollArea > QWidget > QWidget#column {{ background: {window}; color: {text}; }}
QFrame#panel {{ background: {panel}; border: 1px solid {line}; border-radius: 10px; }}
QFrame#inset {{ background: {field}; border: 1px solid {line}; border-radius: 8px; }}
QProgressBar {{ background: {line}; border: none; border-radius: 3px; min-height: 6px; max-height: 6px; }}
QProgressBar::chunk {{ background: {accent}; border-radius: 3px; }}
QLabel {{ color: {text}; background: transparent; }}
QLabel[quiet="true"] {{ color: {quiet}; }}
QLabel#heading {{ font-size: 12px; font-weight: 600; color: {quiet}; letter-spacing: 0.4px; }}
QLabel#title {{ font-size: 20px; font-weight: 600; }}
QLabel#notice {{ background: {panel}; border: 1px solid {alert}; border-radius: 8px; padding: 7px 10px; }}
QLabel#badge {{ border-radius: 9px; padding: 3px 10px; font-weight: 600; background: {field}; color: {quiet}; }}
QLabel#badge[live="true"] {{ background: {alert}; color: {on_alert}; }}
QPushButton, QToolButton {{ background: {field}; color: {text}; border: 1px solid {line}; border-radius: 7px; padding: 6px 12px; }}
QPushButton:hover, QToolButton:hover {{ border-color: {accent}; }}
QPushButton:focus, QToolButton:focus, QComboBox:focus, QLineEdit:focus, QSpinBox:focus, QPlainTextEdit:focus
{{ border: 2px solid {accent}; }}
QPushButton:checked, QToolButton:checked {{ background: {accent}; color: {on_accent}; border-color: {accent}; }}
QPushButton#primary {{ background: {accent}; color: {on_accent}; border-color: {accent}; font-weight: 600; padding: 9px 18px; }}
QPushButton#primary[live="true"] {{ background: {alert}; border-color: {alert}; color: {on_alert}; }}
QPushButton[live="true"] {{ color: {alert}; border-color: {alert}; font-weight: 600; }}
QFrame#inset QPushButton {{ background: {panel}; }}
QPushButton:disabled, QToolButton:disabled {{ color: {quiet}; }}
QPushButton#primary:focus, QPushButton:checked:focus, QToolButton:checked:focus {{ border: 2px solid {text}; }}
QToolButton#health {{ border: none; background: transparent; color: {quiet}; padding: 2px 4px; text-align: left; }}
QComboBox, QLineEdit, QSpinBox, QPlainTextEdit {{ background: {field}; color: {text}; border: 1px solid {line}; border-radius: 7px;
  padding: 5px 8px; selection-background-color: {accent}; }}
QComboBox QAbstractItemView {{ background: {panel}; color: {text}; selection-background-color: {accent}; selection-color: {on_accent}; }}
QComboBox::drop-down {{ border: none; width: 26px; }}
QComboBox::down-arrow {{ image: url({chevron}); width: 12px; height: 12px; }}
QToolButton::menu-indicator {{ image: url({chevron}); subcontrol-position: right center; right: 9px; width: 12px; height: 12px; }}
QToolButton#more {{ padding-right: 28px; }}
QSlider::groove:horizontal {{ height: 4px; border-radius: 2px; background: {line}; }}
QSlider::sub-page:horizontal {{ background: {accent}; border-radius: 2px; }}
QSlider::handle:horizontal {{ width: 14px; height: 14px; margin: -5px 0; border-radius: 7px; background: {accent}; }}
QSlider::handle:horizontal:focus {{ border: 2px solid {text}; }}
QTabWidget::pane {{ border: none; }}
QTabBar::tab {{ background: transparent; color: {quiet}; padding: 7px 12px; border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {text}; border-bottom-color: {accent}; }}
QTabBar::tab:focus {{ color: {accent}; }}
QScrollBar:vertical {{ background: transparent; width: 10px; }}
QScrollBar::handle:vertical {{ background: {line}; border-radius: 5px; min-height: 30px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ height: 0; }}
QMenu {{ background: {panel}; color: {text}; border: 1px solid {line}; padding: 4px; }}
QMenu::item {{ padding: 6px 26px 6px 14px; border-radius: 5px; }}
QMenu::item:selected {{ background: {accent}; color: {on_accent}; }}
QToolTip {{ background: {panel}; color: {text}; border: 1px solid {line}; }}
QDialog {{ background: {window}; color: {text}; border: 1px solid {line}; }}
QLabel#good {{ color: {good}; font-weight: 700; }}
QLabel#mend {{ color: {alert}; font-weight: 700; }}
QCheckBox {{ color: {text}; spacing: 8px; }}
QCheckBox::indicator {{ width: 16px; height: 16px; border: 1px solid {quiet}; border-radius: 4px; background: {field}; }}
QCheckBox::indicator:checked {{ background: {accent}; border-color: {accent}; image: url({check}); }}
QCheckBox::indicator:focus {{ border: 2px solid {text}; }}
QCheckBox:disabled {{ color: {quiet}; }}
QCheckBox::indicator:disabled {{ border-color: {line}; }}
"""


def is_dark(choice: str) -> bool:
    """`choice`: system, light or dark."""
    if choice in ("light", "dark"):
        return choice == "dark"
    hints = QGuiApplication.styleHints()
    if hints is not None and hints.colorScheme().name in ("Dark", "Light"):
        return hints.colorScheme().name == "Dark"
    return False


def colours(choice: str) -> Colours:
    return DARK if is_dark(choice) else LIGHT


def apply(app: QApplication, choice: str) -> Colours:
    """Dresses the whole application; returns the colours for what paints itself."""
    c = colours(choice)
    palette = QPalette()
    for role, value in (
        (QPalette.ColorRole.Window, c.window),
        (QPalette.ColorRole.Base, c.field),
        (QPalette.ColorRole.AlternateBase, c.panel),
        (QPalette.ColorRole.Text, c.text),
        (QPalette.ColorRole.WindowText, c.text),
        (QPalette.ColorRole.Button, c.field),
        (QPalette.ColorRole.ButtonText, c.text),
        (QPalette.ColorRole.Highlight, c.accent),
        (QPalette.ColorRole.HighlightedText, c.on_accent),
        (QPalette.ColorRole.PlaceholderText, c.quiet),
        (QPalette.ColorRole.Mid, c.line),
        (QPalette.ColorRole.BrightText, c.alert),
        (QPalette.ColorRole.Link, c.accent),
    ):
        palette.setColor(role, QColor(value))
    app.setPalette(palette)
    pictures = {
        name: (ASSETS / f"{name}-{'dark' if c is DARK else 'light'}.svg").as_posix() for name in ("chevron", "check")
    }
    app.setStyleSheet(_SHEET.format(**vars(c), **pictures))
    return c

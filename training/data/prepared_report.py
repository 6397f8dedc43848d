"""The one-page report of a prepared corpus: what came in, what was made of it, what was left out and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from html import escape
from pathlib import Path

import cv2
import numpy as np

from training.data.clip import FPS, write_text_atomic
from training.data.record import ClipNote, Outcome
from training.data.video import VideoError, pictures

SHEET_CLIPS, SHEET_COLUMNS, SHEET_SIZE = 24, 8, 128
LATE_MS = 45.0  # EBU R37 lets sound lead by 40 ms and lag by 60; beyond this a clip is worth a look
STYLE = "body{font:15px sans-serif;max-width:60em;margin:2em auto}td,th{padding:2px 12px 2px 0;text-align:left}table{margin:1em 0}"


def write_report(root: Path, about: dict, outcomes: list[Outcome]) -> Path:
    """Writes report.html, and contact.jpg beside it; returns the page's path."""
    good = [o for o in outcomes if o.state == "clips"]
    notes = [note for o in good for note in o.notes]
    parts = [f"<!doctype html><meta charset=utf-8><title>Prepared clips</title><style>{STYLE}</style>"]
    parts.append(
        f"<h1>{len(notes)} clips of {len(about['people'])} people, {about['frames'] / FPS / 60:.1f} minutes</h1>"
    )
    parts.append(
        f"<p>From {escape(about['prepared']['source'])}. {len(good)} of {len(outcomes)} recordings gave clips.</p>"
    )
    if _contact_sheet(root, notes):
        parts.append("<p><img src=contact.jpg alt='first frames of some clips'></p>")
    parts.append(_table("Split", about["splits"], "clips"))
    minutes: dict[str, float] = defaultdict(float)
    for o in good:
        minutes[o.emotion or "not labelled"] += sum(note.seconds for note in o.notes) / 60
    parts.append(_table("Emotion", {k: f"{v:.1f}" for k, v in sorted(minutes.items())}, "minutes"))
    parts.append(_offsets(notes))
    parts.append(_table("Source pictures", Counter(o.picture for o in good if o.picture).most_common(12), "recordings"))
    parts.append(_left_out(outcomes))
    write_text_atomic(root / "report.html", "\n".join(p for p in parts if p) + "\n")
    return root / "report.html"


def _table(title: str, rows, unit: str) -> str:
    pairs = list(rows.items()) if isinstance(rows, dict) else list(rows)
    if not pairs:
        return ""
    lines = "".join(f"<tr><td>{escape(str(k))}<td>{escape(str(v))}" for k, v in pairs)
    return f"<table><tr><th>{title}<th>{unit}{lines}</table>"


def _offsets(notes: list[ClipNote]) -> str:
    """How far sound is behind the picture, over the clips where that could be told."""
    sure = [n for n in notes if n.offset_confidence >= 0.5]
    if not notes:
        return ""
    text = f"<h2>Sound against lips</h2><p>The offset could be told for {len(sure)} of {len(notes)} clips"
    if sure:
        ms = np.array([n.offset_ms for n in sure])
        text += f": median {np.median(ms):+.0f} ms, half of them from {np.percentile(ms, 25):+.0f} to {np.percentile(ms, 75):+.0f} ms"
    text += " (above zero the sound comes late). "
    off = [n for n in sure if abs(n.offset_ms) > LATE_MS and not n.offset_mended]
    if off:
        worst = sorted(off, key=lambda n: -abs(n.offset_ms))[:20]
        listed = ", ".join(f"{escape(n.id)} {n.offset_ms:+.0f} ms" for n in worst)
        text += f"{len(off)} are off by more than {LATE_MS:.0f} ms; --fix-sync moves their sound: {listed}."
    return text + "</p>"


def _left_out(outcomes: list[Outcome]) -> str:
    bad = [o for o in outcomes if o.state != "clips"]
    some = [(o, reason) for o in outcomes if o.state == "clips" for reason in o.dropped]
    if not bad and not some:
        return "<h2>Left out</h2><p>Nothing.</p>"
    lines = "".join(f"<tr><td>{escape(o.video)}<td>{o.state}<td>{escape(o.reason)}" for o in bad)
    lines += "".join(f"<tr><td>{escape(o.video)}<td>a scene of it<td>{escape(reason)}" for o, reason in some)
    return f"<h2>Left out</h2><table><tr><th>Recording<th>What<th>Why{lines}</table>"


def _contact_sheet(root: Path, notes: list[ClipNote]) -> bool:
    """First frames of clips spread over the corpus, as contact.jpg."""
    step = max(1, len(notes) // SHEET_CLIPS)
    small = []
    for note in notes[::step][:SHEET_CLIPS]:
        try:
            _, picture = next(pictures(root / "clips" / note.id / "rgb.mp4"))
        except (VideoError, StopIteration):  # made without pixels
            continue
        small.append(cv2.resize(picture, (SHEET_SIZE, SHEET_SIZE), interpolation=cv2.INTER_AREA))
    if not small:
        return False
    small += [np.full_like(small[0], 255)] * (-len(small) % min(SHEET_COLUMNS, len(small)))
    columns = min(SHEET_COLUMNS, len(small))
    rows = [np.hstack(small[k : k + columns]) for k in range(0, len(small), columns)]
    return cv2.imwrite(str(root / "contact.jpg"), np.vstack(rows)[..., ::-1])

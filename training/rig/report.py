"""One page about a corpus: who, how much of what, the contact sheet, and what was left out."""

from __future__ import annotations

import html
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from training.data.clip import EMOTIONS, FPS, Clip, ClipError, Corpus, read_clip, write_text_atomic
from training.rig.expressions import VISEMES, emotion_expression, viseme_expression
from training.rig.pack import load_pack
from training.rig.person import Person
from training.rig.progress import progress_bar, start_workers

TILE = 224  # pixels of a picture on the contact sheet
TURN = np.radians(25)
BACKGROUND = np.array([196, 200, 206], np.float32)

STYLE = """body{font:14px/1.45 system-ui,sans-serif;max-width:1400px;margin:24px auto;padding:0 16px;color:#222}
h1{font-size:22px}h2{font-size:16px;margin-top:28px}table{border-collapse:collapse}td,th{padding:1px 10px 1px 0;text-align:left}
.bar{background:#5b84b1;height:9px}.columns{display:flex;flex-wrap:wrap;gap:40px}img{max-width:100%}.note{color:#777}"""


def _tile(renderer, expression, label: str, pose=(0.0, 0.0, 0.0), blink: float = 0.0) -> np.ndarray:
    """One labelled BGR picture over grey."""
    frame = renderer.render(expression, pose, blink=blink).astype(np.float32)
    cover = frame[..., 3:] / 255
    picture = (frame[..., :3] * cover + BACKGROUND * (1 - cover))[..., ::-1]
    picture = np.ascontiguousarray(cv2.resize(picture.astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_AREA))
    cv2.putText(picture, label, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    return picture


def _begin() -> None:
    cv2.setNumThreads(1)


def _draw_person(path: Path, folder: Path, with_visemes: bool, head_pack: Path | None) -> str:
    """Writes one row: six emotions, turned both ways, eyes closed; with the visemes below if asked."""
    from training.rig.renderer import Renderer

    person = Person.from_json(path.read_bytes())
    out = folder / f"{person.name}.png"
    if out.exists():
        return person.name
    renderer = Renderer(256, 2, load_pack(head_pack))
    renderer.set_person(person)
    rest = emotion_expression("neutral")
    row = [_tile(renderer, emotion_expression(e), f"{person.name}, {person.age}: {e}") for e in EMOTIONS]
    row += [_tile(renderer, rest, "25 degrees", (turn, 0.0, 0.0)) for turn in (-TURN, TURN)]
    row.append(_tile(renderer, rest, "eyes closed", blink=1.0))
    sheet = np.hstack(row)
    if with_visemes:
        tiles = [_tile(renderer, viseme_expression(v), f"viseme {v}") for v in VISEMES]
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % len(row))
        rows = [np.hstack(tiles[k : k + len(row)]) for k in range(0, len(tiles), len(row))]
        sheet = np.vstack([sheet, *rows])
    if not cv2.imwrite(str(out), sheet):
        raise ClipError(f"{out}: cannot be written; check the disk")
    return person.name


def contact_sheet(root: Path, head_pack: Path | None = None, workers: int = 0) -> Path:
    """Draws every person in every emotion, turned, and with closed eyes; the visemes of the first. Rows are kept."""
    folder = root / "contact"
    folder.mkdir(exist_ok=True)
    people = sorted((root / "people").glob("*.json"))
    with start_workers(workers, _begin, ()) as pool, progress_bar() as bar:
        task = bar.add_task("contact sheet (people)", total=len(people), note="")
        futures = [pool.submit(_draw_person, path, folder, k == 0, head_pack) for k, path in enumerate(people)]
        for future in futures:
            future.result()
            bar.advance(task)
    rows = [cv2.imread(str(folder / f"{path.stem}.png")) for path in people]
    sheet = root / "contact_sheet.jpg"
    if not cv2.imwrite(str(sheet), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise ClipError(f"{sheet}: cannot be written; check the disk")
    return sheet


def count_minutes(clips: list[Clip]) -> dict:
    """Clips, minutes, share of real voice, and minutes by split, person, voice and first mood: for corpus.json."""
    seconds: dict[str, Counter] = {"split": Counter(), "person": Counter(), "voice": Counter(), "emotion": Counter()}
    real = 0.0
    for clip in clips:
        s = clip.info.frames / FPS
        real += s * clip.info.real_voice
        for key, value in (
            ("split", clip.info.split),
            ("person", clip.info.person),
            ("voice", clip.info.voice),
            ("emotion", clip.info.script[0][1] if clip.info.script else "neutral"),
        ):
            seconds[key][value] += s
    total = sum(seconds["split"].values())
    minutes = {f"minutes_by_{k}": {n: round(v / 60, 2) for n, v in sorted(c.items())} for k, c in seconds.items()}
    share = round(real / total, 3) if total else 0.0
    return {"clips": len(clips), "minutes": round(total / 60, 2), "real_voice_share": share, **minutes}


def _bars(title: str, values: dict[str, float], unit: str) -> str:
    most = max(values.values(), default=1) or 1
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}<td>{value:g}<td><div class=bar style='width:{round(160 * value / most)}px'></div>"
        for name, value in values.items()
    )
    return f"<div><h2>{title}, {unit}</h2><table>{rows}</table></div>"


def _phone_counts(root: Path, ids: list[str]) -> dict[str, float]:
    """Minutes of each phone, the most said first."""
    seconds: Counter[str] = Counter()
    for clip_id in ids:
        for name, a, b in read_clip(root / "clips" / clip_id).info.phones:
            seconds[name] += b - a
    return {name: round(s / 60, 2) for name, s in seconds.most_common()}


def write_report(root: Path, rejected: list[str], pictures: bool, head_pack: Path | None = None) -> Path:
    """Writes report.html beside the clips; with `pictures` the contact sheet too."""
    corpus = Corpus(root)
    ids = corpus.ids()
    about = {**count_minutes(list(corpus)), **corpus.about}
    sheet = contact_sheet(root, head_pack).name if pictures else ""
    drawn = sum(clip.has_pixels() for clip in corpus)
    people = [Person.from_json(p.read_bytes()) for p in sorted((root / "people").glob("*.json"))]
    rows = "".join(
        f"<tr><td>{p.name}<td>{p.age}<td>{p.sex}<td>{p.complexion}<td>{html.escape(p.hair_words)}"
        f"<td>{'glasses' if p.glasses else ''}<td>{about['minutes_by_person'].get(p.name, 0):g}"
        f"<td>{'held out whole' if p.name in about.get('held_people', []) else ''}"
        for p in people
    )
    parts = [
        f"<!doctype html><meta charset=utf-8><title>Corpus</title><style>{STYLE}</style>",
        f"<h1>{about['minutes']:g} minutes, {about['clips']} clips, {len(people)} people</h1>",
        f"<p>{round(100 * about['real_voice_share'])} % of the time is a real human voice. {drawn} clips have pixels, "
        f"{about['settings']['size']} px, {FPS} frames a second. Seed {about['seed']}.",
        f"<p class=note>Split: {html.escape(about['split_rule'])}.",
        "<div class=columns>",
        *(_bars(f"By {k}", about[f"minutes_by_{k}"], "minutes") for k in ("split", "emotion", "voice")),
        _bars("Phones", _phone_counts(root, ids), "minutes"),
        "</div><h2>People</h2><table><tr><th>name<th>age<th>sex<th>skin<th>hair<th><th>minutes<th></tr>",
        f"{rows}</table>",
        f"<h2>Contact sheet</h2><img src={sheet}>" if sheet else "",
        f"<h2>Left out: {len(rejected)}</h2><p>" + "<br>".join(map(html.escape, rejected)) if rejected else "",
    ]
    path = root / "report.html"
    write_text_atomic(path, "\n".join(parts) + "\n")
    return path

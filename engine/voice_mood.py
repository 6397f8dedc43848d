"""What the voice says by itself: its mood, and whose face it fits, for avatars that carry a voice reader.

The reader is a small graph on the contexts that the audio encoder has anyway and, beside them, on the sound itself, of
which it keeps what it needs as its state. It is asked every 100 ms about the last second or so; its answers are smoothed in
stream time, so the same sound gives the same moods however it is cut up.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.audio.files import SpeechFile, SpeechResampler
from engine.avatar import Avatar
from engine.backends import load_graphs
from engine.backends.base import Graph
from engine.controls import Controls
from engine.encoder import RING_HOPS, AudioEncoder
from engine.errors import AvatarError, BackendError
from engine.manifest import EMOTIONS, HOP_SAMPLES, READER_SAMPLES

Array = NDArray[np.float32]

EVERY_HOPS = READER_SAMPLES // HOP_SAMPLES
_HOP_S = 0.01
# A mood is taken up while there is speech, and fades slowly while there is none.
_MOOD_S, _CALM_S = 0.4, 3.0
# A mood shows as far as it is likelier than calm and than chance among six: whoever is unsure looks calm.
_CHANCE, _SHOWN = 0.2, 1.5
_SPEAKING = 0.15  # activity of the voice (engine.prosody) from which on it counts fully
# Who speaks is settled over seconds, and another face must fit clearly better to take over.
# A mood is a departure from what is usual for the voice: its mean over the last minute of speech.
_USUAL_S = 60.0
_PERSON_S, _PERSON_AFTER_S, _PERSON_MARGIN = 5.0, 1.5, 0.5
_NEUTRAL = EMOTIONS.index("neutral")
_LISTEN_S = 30.0
# Small graphs gain nothing from a graphics card.
_BACKENDS = ("openvino", "onnxruntime")


def hears(avatar: Avatar) -> bool:
    """Whether the avatar can take mood and person from the voice."""
    return avatar.manifest.graphs.voice_reader is not None


def require_reader(avatar: Avatar, controls: Controls) -> None:
    """Raises `AvatarError` if the controls ask the voice for something that this avatar cannot hear in it."""
    if hears(avatar):
        return
    for asked, what in ((controls.auto_emotion > 0, "emotion auto"), (controls.person_from_voice, "person from-voice")):
        if asked:
            raise AvatarError(
                f"{avatar.name} has no voice reader, so {what} cannot be had; name it yourself or use another avatar"
            )


def load_reader(avatar: Avatar) -> Graph | None:
    """The avatar's voice reader on the processor, None if it has none. Raises `BackendError`."""
    if not hears(avatar):
        return None
    return _load(avatar, "voice_reader")


def _load(avatar: Avatar, role: str) -> Graph:
    reasons = []
    for name in _BACKENDS:
        try:
            return load_graphs([avatar.graph(role)], name, threads=1).graphs[0]
        except BackendError as error:
            reasons.append(str(error))
    raise BackendError(f"the {role.replace('_', ' ')} does not run on this processor: {'; '.join(reasons)}")


class VoiceListener:
    """Follows one encoder. `mood [6]` has neutral at 0, as controls have it; one thread, right after each push."""

    def __init__(self, avatar: Avatar, graph: Graph, encoder: AudioEncoder) -> None:
        self._avatar, self._graph, self._encoder = avatar, graph, encoder
        _, self._window, self._size = graph.spec.inputs_of("context")["context"]
        self._hears_sound = "samples" in graph.spec.inputs_of("samples")
        self.reset()

    def reset(self) -> None:
        """Forgets the voice."""
        self._state = self._graph.initial()
        self._reads = 0
        self._moods: list[Array] = [np.zeros(len(EMOTIONS), np.float32)]
        self._scores = np.zeros(len(self._avatar.people), np.float32)
        self._usual = np.zeros((1, self._size), np.float32)
        self._heard_s = 0.0
        self._person: str | None = None

    def follow(self) -> None:
        """Reads what has been encoded since the last call."""
        while (hop := (self._reads + 1) * EVERY_HOPS - 1) < self._encoder.hops:
            self._reads += 1
            if hop < self._encoder.oldest_newest_hop + self._window:  # over a minute at once: the beginning is gone
                self._moods.append(self._moods[-1])
            else:
                self._read(hop)
            del self._moods[: -RING_HOPS // EVERY_HOPS]

    def _read(self, hop: int) -> None:
        contexts = self._encoder.window(hop, self._window)
        speaking = min(self._encoder.prosody(hop).activity / _SPEAKING, 1.0)
        self._get_used_to(contexts[:, -EVERY_HOPS:].mean(1), speaking)
        seconds = np.full((1, 1), min(self._heard_s, _USUAL_S), np.float32)
        inputs = {"context": contexts, "usual": self._usual, "seconds": seconds}
        if self._hears_sound:
            inputs["samples"] = self._encoder.sound(hop, EVERY_HOPS)
        self._state, outputs = self._graph.step(self._state, inputs)
        felt = shown(outputs["emotion"][0]) * np.float32(speaking)
        elapsed = EVERY_HOPS * _HOP_S
        rate = speaking / _MOOD_S + (1.0 - speaking) / _CALM_S
        before = self._moods[-1]
        self._moods.append(before + (felt - before) * np.float32(1.0 - math.exp(-elapsed * rate)))
        # an average of all that was said at first, of the last seconds later
        share = elapsed * speaking / min(self._heard_s + 1e-6, _PERSON_S)
        self._scores += np.float32(share) * (outputs["people"][0] - self._scores)
        self._settle()

    def _get_used_to(self, contexts: Array, speaking: float) -> None:
        """An average of all speech at first, of the last minute later."""
        elapsed = EVERY_HOPS * _HOP_S * speaking
        self._heard_s += elapsed
        self._usual += np.float32(elapsed / min(self._heard_s + 1e-6, _USUAL_S)) * (contexts - self._usual)

    def _settle(self) -> None:
        if self._heard_s < _PERSON_AFTER_S:
            return
        people, best = self._avatar.people, int(self._scores.argmax())
        now = self._person
        if now is None or self._scores[best] > self._scores[people.index(now)] + _PERSON_MARGIN:
            self._person = people[best]

    def mood(self, hop: int) -> Array:
        """`[6]` weights as of a hop, at most a minute old; neutral stays 0. Between two reads the way from the last but
        one to the last is gone evenly, so that no frame jumps.
        """
        behind = max(self._reads - (hop + 1) // EVERY_HOPS, 0)
        last = max(len(self._moods) - 1 - behind, 0)
        before, now = self._moods[max(last - 1, 0)], self._moods[last]
        share = np.float32((hop + 1) % EVERY_HOPS / EVERY_HOPS)
        return np.asarray(before + share * (now - before), np.float32)

    @property
    def person(self) -> str | None:
        """Whose face the voice fits best; None until enough has been said."""
        return self._person

    def close(self) -> None:
        """Frees the graph."""
        self._graph.close()


def shown(likely: Array) -> Array:
    """Probabilities `[6]` -> weights `[6]` 0..1 of the moods that stand out; neutral is 0."""
    doubt = max(float(likely[_NEUTRAL]), _CHANCE)
    weights = np.clip((likely - doubt) * np.float32(_SHOWN / (1.0 - _CHANCE)), 0.0, 1.0)
    weights[_NEUTRAL] = 0.0
    return np.asarray(weights, np.float32)


def blended(controls: Controls, heard: Array) -> Controls:
    """The controls with the voice's mood in them: the knobs come first, the voice fills what they leave."""
    strength = controls.auto_emotion
    if strength <= 0:
        return controls
    knobs = np.asarray(controls.emotion, np.float32)
    left = max(0.0, 1.0 - float(knobs.sum() - knobs[_NEUTRAL]))
    mixed = np.clip(knobs + strength * left * heard, 0.0, 1.0)
    return replace(controls, emotion=tuple(float(w) for w in mixed), auto_emotion=0.0)


@contextmanager
def listening(avatar: Avatar, reader: Graph) -> Iterator[tuple[AudioEncoder, VoiceListener]]:
    """The avatar's audio encoder and a listener on it, without a face; both graphs are closed at the end."""
    graph = _load(avatar, "audio_encoder")
    encoder = AudioEncoder(avatar, graph)
    listener = VoiceListener(avatar, reader, encoder)
    try:
        yield encoder, listener
    finally:
        listener.close()
        graph.close()


def person_of_speech(avatar: Avatar, speech: SpeechFile) -> str | None:
    """Whose face the speech of a file fits best, by its first half minute; None if there is too little speech."""
    reader = load_reader(avatar)
    if reader is None:
        return None
    resampler = SpeechResampler(speech.rate)
    with listening(avatar, reader) as (encoder, listener):
        for block in speech.blocks():
            encoder.push(resampler.push(block))
            listener.follow()
            if encoder.hops * _HOP_S > _LISTEN_S:
                break
        return listener.person

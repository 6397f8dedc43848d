"""Speaks one text through espeak-ng's library: `python espeak.py VOICE TEXT`, run by speech.py as a process of its own.

A fresh process each time, because the library's noise and flutter run on from one utterance to the next, and the same
text must give the same sound. Imports the standard library only, so that it starts in a few hundredths of a second.
stdout: one line of JSON (rate, events as [seconds, IPA name]), then the samples as signed 16 bit little endian.
"""

import ctypes
import json
import sys

SYNCHRONOUS, PHONE_EVENTS_IN_IPA, PHONE_EVENT, UTF8 = 2, 3, 7, 1


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("name", ctypes.c_char * 8),
    ]  # fmt: skip


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def speak(voice: str, text: str) -> tuple[int, list[tuple[float, str]], bytes]:
    """(rate, [(seconds, IPA)], samples). Raises OSError without the library, ValueError for an unknown voice."""
    library = ctypes.CDLL("libespeak-ng.so.1")
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONE_EVENTS_IN_IPA)
    blocks: list[bytes] = []
    events: list[tuple[float, str]] = []

    def on_samples(samples, count, event):
        if count > 0 and samples:
            blocks.append(ctypes.string_at(samples, 2 * count))
        k = 0
        while event[k].type != 0:
            if event[k].type == PHONE_EVENT:
                events.append((event[k].audio_position / 1000, event[k].name.decode("utf8", "ignore")))
            k += 1
        return 0

    callback = CALLBACK(on_samples)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:  # it would go on in another voice without a word
        raise ValueError(f"espeak-ng has no voice {voice}")
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, UTF8, None, None)
    library.espeak_Synchronize()
    return rate, events, b"".join(blocks)


if __name__ == "__main__":
    try:
        rate, events, samples = speak(sys.argv[1], sys.argv[2])
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(json.dumps({"rate": rate, "events": events}).encode() + b"\n" + samples)

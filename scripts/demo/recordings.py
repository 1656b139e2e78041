"""Recordings of the sample calls: silence, and in one of them a question about a dog, with its answer.

The files in sound/ are made with espeak-ng 1.51 and LAME 3.100, without bit reservoir, so that each frame stands alone:

    espeak-ng -v en-gb -s 150 -p 35 -a 120 -w ask.wav "It may sound odd, but our old dog ..."
    espeak-ng -v en-us+f3 -s 160 -p 55 -a 120 -w look.wav "Let me see what ..."      (answer.wav: -s 175)
    lame --cbr -b 24 --resample 16 -m m --nores -t --noreplaygain ask.wav ask.mp3
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

FRAME_SECONDS = 0.036  # 576 samples at 16 kHz
SIDE_INFORMATION = bytes(9)  # of a mono frame: a granule without main data, which is silence
# MPEG-2 Layer III, no CRC, 16 kHz, no padding, mono, original: by kbps.
FRAME_HEADERS = {128: bytes.fromhex("fff3c8c4"), 24: bytes.fromhex("fff338c4")}
SOUND = Path(__file__).parent / "sound"
# Beginnings of turns in the long call, and what is heard there.
SPOKEN = {
    "It may sound odd, but our old dog": "ask.mp3",
    "Let me see what the yard's calendar says about the dog's ladder": "look.mp3",
    "The carpenter makes gangways with cleats for paws": "answer.mp3",
}


def mp3(seconds: int, kbps: int = 128) -> bytes:
    """A silent recording. Each frame carries its number as ancillary data: no two are the same."""
    return b"".join(silent_frames(seconds, kbps))


def spoken(seconds: int, turns: Iterable[dict[str, Any]]) -> bytes:
    """A recording in which some of the turns are heard, each at its second."""
    frames = silent_frames(seconds, 24)
    for turn in turns:
        for beginning, name in SPOKEN.items():
            if (turn["message"] or "").startswith(beginning):
                heard = list(split((SOUND / name).read_bytes(), frame_bytes(24)))
                at = round(turn["time_in_call_secs"] / FRAME_SECONDS)
                frames[at : at + len(heard)] = heard
    return b"".join(frames)


def silent_frames(seconds: int, kbps: int) -> list[bytes]:
    frame, length = FRAME_HEADERS[kbps] + SIDE_INFORMATION, frame_bytes(kbps)
    return [(frame + b"%d" % number).ljust(length, b"\0") for number in range(round(seconds / FRAME_SECONDS))]


def split(recording: bytes, length: int) -> Iterable[bytes]:
    return (recording[at : at + length] for at in range(0, len(recording), length))


def frame_bytes(kbps: int) -> int:
    return 72 * kbps // 16  # at 16 kHz

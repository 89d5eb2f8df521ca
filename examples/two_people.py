"""Write what two people's faces did at the same instants to a CSV file: two_people.py smiles.csv 60.

It watches everybody in the room "dyad" for so many seconds, and takes the two who were seen most. Their broadcasters
have to look for blendshapes: python -m synopticon_rtc.broadcast --blendshapes --room dyad. SYNOPTICON_URL names another
signaling server than the one on this machine, and SYNOPTICON_ROOM another room.
"""

import asyncio
import contextlib
import csv
import os
import sys
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from synopticon_rtc import Face, Room, SynopticonError

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
ROOM = os.environ.get("SYNOPTICON_ROOM", "dyad")
RATE = 30  # rows a second


def smile(face: Face) -> float | None:
    scores = face.blendshapes  # empty where the broadcaster does not look for them
    return (scores["mouthSmileLeft"] + scores["mouthSmileRight"]) / 2 if scores else None


async def watch(seconds: float) -> dict[str, npt.NDArray[np.float64]]:
    """Return the instants and smiles of each person, shape (2, n); instants by the clock of this machine."""
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    async with Room(URL, room=ROOM) as room:
        print(f"watching the room {ROOM} for {seconds:g} s", flush=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for one in room.moments():
                    value = smile(one.moment.faces[0]) if one.moment.faces else None
                    if one.captured is not None and value is not None:
                        seen[one.participant.name].append((one.captured, value))
    return {name: np.array(rows).T for name, rows in seen.items()}


def align(people: dict[str, npt.NDArray[np.float64]], path: str) -> None:
    if len(people) < 2:  # noqa: PLR2004 - as many as it takes
        sys.exit(
            f"two people have to be seen in the room {ROOM}, with blendshapes: {', '.join(people) or 'nobody'} was"
        )
    names = sorted(people, key=lambda name: people[name].shape[1])[-2:]
    begin = max(people[name][0, 0] for name in names)
    end = min(people[name][0, -1] for name in names)
    if begin >= end:
        sys.exit(f"{names[0]} and {names[1]} were never seen at the same time")
    instants = np.arange(begin, end, 1 / RATE)
    smiles = [np.interp(instants, *people[name]) for name in names]  # between the frames before and after
    with open(path, "w", newline="") as file:  # noqa: PTH123 - the path of a user
        writer = csv.writer(file)
        writer.writerow(["seconds", *names])
        writer.writerows(zip(instants - begin, *smiles, strict=True))
    print(f"{len(instants)} instants of {names[0]} and {names[1]} in {path}")
    if min(map(np.std, smiles)) > 0:
        print(f"their smiles correlate by {np.corrcoef(smiles)[0, 1]:.2f}")


with contextlib.suppress(KeyboardInterrupt):
    try:
        align(
            asyncio.run(watch(float(sys.argv[2] if sys.argv[2:] else 60))),
            sys.argv[1] if sys.argv[1:] else "smiles.csv",
        )
    except (SynopticonError, OSError) as error:
        sys.exit(str(error))

"""Plot a table of faces: how far eyes and mouth are open and where the head turns, to a PNG file. Needs matplotlib.

`receive --faces-out faces.parquet` writes one, and so does `analyse talk.mp4 --out faces.parquet`; docs/tables.md tells
its columns. Nothing of synopticon-rtc is needed to read it: plot_faces.py faces.parquet faces.png
"""

import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt

PANELS = {
    "eyes, height by width": ["left_eye_openness", "right_eye_openness"],
    "mouth, height by width": ["mouth_openness"],
    "head, degrees": ["yaw", "pitch", "roll"],
}


def main(path: Path, picture: Path) -> None:
    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    most = table["face_id"].mode().iloc[:1].tolist()  # the face that is in most frames, if there is any
    face = table[table["face_id"].isin(most)].set_index("time")
    _, panels = plt.subplots(len(PANELS), 1, sharex=True, figsize=(10, 8), layout="constrained")
    for axes, (label, columns) in zip(panels, PANELS.items(), strict=True):
        for column in columns:
            axes.plot(face.index, face[column], label=column, linewidth=0.8)
        axes.set_ylabel(label)
        axes.legend(loc="upper right", fontsize="small")
    panels[-1].set_xlabel("seconds")
    plt.savefig(picture)
    seen = table.groupby("frame")["face_id"].count().gt(0).mean()
    print(f"{table['frame'].nunique()} frames, {seen:.0%} of them with faces; drawn to {picture}")


if len(sys.argv) != 3:  # noqa: PLR2004 - its own name, and two
    sys.exit(__doc__)
main(Path(sys.argv[1]), Path(sys.argv[2]))

#!/usr/bin/env bash
# The package on ARM Linux, without such a machine: Debian's interpreter and the wheels of the index, run by qemu.
#   tools/arm_smoke.sh [FOLDER]     what is fetched is kept in the folder: 400 MB, a few minutes the first time
# It wants Debian with qemu-user-static, and the environment of `make test`, which has uv.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
mkdir -p "${1:-$root/.arm}"
here="$(cd "${1:-$root/.arm}" && pwd)"

if [ ! -e "$here/ready" ]; then
    mkdir -p "$here"/{lists,cache/archives/partial,sysroot/usr/lib}
    : >"$here/status" # of what is installed there: nothing yet
    apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Install-Recommends=false
        -o Dir::State::Lists="$here/lists" -o Dir::State::status="$here/status" -o Dir::Cache="$here/cache")
    "${apt[@]}" update
    "${apt[@]}" install --download-only --yes python3.11 libgl1 libglib2.0-0 libstdc++6
    ln -sfn usr/lib "$here/sysroot/lib" # what is packed for /lib goes there too
    for package in "$here"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --exclude='./usr/share' -C "$here/sysroot"
    done
    # Later LiteRTs than this crash in qemu 7.2, whatever processor it plays.
    "$root/.venv/bin/uv" pip install --quiet --target "$here/site" --only-binary :all: \
        --python-platform aarch64-manylinux_2_28 --python-version 3.11 -r "$root/pyproject.toml" --extra portrait \
        ai-edge-litert==2.1.6
    touch "$here/ready"
fi

# A warning of NumPy's would be one that users get. In one thread, as sums came out wrong once on a busy one.
arm=(qemu-aarch64-static -L "$here/sysroot" -E PYTHONHOME="$here/sysroot/usr" -E PYTHONPATH="$root:$here/site"
    -E OPENBLAS_NUM_THREADS=1
    -E PYTHONWARNINGS=error::RuntimeWarning -E LD_LIBRARY_PATH="$here/sysroot/usr/lib/aarch64-linux-gnu"
    "$here/sysroot/usr/bin/python3.11")

SYNOPTICON_FACE_MODEL=$("$root/.venv/bin/python" -m synopticon_rtc.faces.model) "${arm[@]}" - <<'END'
import asyncio
import platform

from synopticon_rtc import Broadcaster, FaceLandmarker, Portrait
from synopticon_rtc.faces import wire


async def main():
    print(f"import: {Broadcaster.__name__} on {platform.machine()}")
    async with FaceLandmarker(engine="litert") as landmarker:
        faces = await landmarker.detect(Portrait().draw(0))
        (face,) = wire.decode(wire.encode(wire.FacesMessage(faces, 1280, 720))).faces
        x, y, _ = face.landmarks[1]
        print(f"a face: its nose is at {x:.1%} of the width and {y:.1%} of the height, as {landmarker.name} finds it")


asyncio.run(main())
END

port=$("${arm[@]}" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"${arm[@]}" -m synopticon_rtc.broadcast --source test --size 320x180 --fps 15 --faces 0 --serve "127.0.0.1:$port" >"$here/broadcast.log" 2>&1 &
broadcaster=$!
trap 'kill $broadcaster 2>/dev/null || true' EXIT
for _ in $(seq 120); do
    grep -q '^signaling' "$here/broadcast.log" && break
    sleep 1
done
"${arm[@]}" -m synopticon_rtc.receive --url "ws://127.0.0.1:$port/ws" --frames 20 --timeout 60 | tail -1

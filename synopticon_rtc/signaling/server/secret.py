"""Secrets, which come from files and the environment: command lines can be read by others on the machine."""

import os
from pathlib import Path

from synopticon_rtc.errors import SignalingError


def read_secret(file: Path | None, variable: str) -> bytes:
    """Read a secret from a file, or else from an environment variable; empty where there is neither.

    Raises:
        SignalingError: The file cannot be read, or holds nothing.
    """
    if file is None:
        return os.environ.get(variable, "").encode()
    try:
        secret = file.read_bytes().strip()
    except OSError as error:
        raise SignalingError(f"the secret in {file} cannot be read: {error.strerror}") from error
    if not secret:
        raise SignalingError(f"the file {file} holds no secret: it is empty")
    return secret

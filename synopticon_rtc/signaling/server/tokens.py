"""Tokens: what lets a client in, and says who it is, where it may be and what it may do there (JWT, RFC 7519)."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jwt
import msgspec

from synopticon_rtc.errors import InvalidToken, SignalingError
from synopticon_rtc.signaling.server.access import ROLES, Role

SECRET_BYTES = 32  # what HS256 wants at least (RFC 7518, 3.2)
ASYMMETRIC = ("RS256", "ES256")
LEEWAY = 5.0  # seconds that the issuer's clock may be ahead


@dataclass(frozen=True)
class Claims:
    """What a token says of its bearer.

    Attributes:
        subject: Who it is; empty where the token does not say.
        room: The one room for which it is good, or None for any.
        roles: What the bearer may do, or None where the token does not say.
        name: What people call it; empty where the token does not say.
        expires: When the token ends (s since the epoch), if it does.
        invitation: What tells it from others where it is for one client at a time; empty where it is for any number.
    """

    subject: str = ""
    room: str | None = None
    roles: frozenset[Role] | None = None
    name: str = ""
    expires: float | None = None
    invitation: str = ""


class TokenKeys:
    """What tokens are checked with: a secret for HS256, public keys for RS256 and ES256, or both.

    A key is good for the algorithms of its own kind alone, so that no token can have a public key taken for a secret.

    Args:
        secret: Shared with whoever makes the tokens.
        jwks: A JSON Web Key Set (RFC 7517) as a mapping, or the path of its file.

    Raises:
        SignalingError: The secret is too short, or the key set cannot be read.
    """

    def __init__(self, *, secret: bytes = b"", jwks: Mapping[str, Any] | Path | None = None) -> None:
        if not secret and jwks is None:
            raise SignalingError("tokens need something to be checked with: give a secret or a JWKS file")
        if secret and len(secret) < SECRET_BYTES:
            raise SignalingError(f"a token secret needs {SECRET_BYTES} bytes at least, this one has {len(secret)}")
        self._secret = secret
        self._keys = _read_jwks(jwks) if jwks is not None else []

    def check(self, token: str) -> Claims:
        """Tell what a token says.

        Raises:
            InvalidToken: It is missing, expired, forged, of another algorithm, or says what cannot be.
        """
        if not token:
            raise InvalidToken(
                "token_missing",
                "A token is needed here, as it stands in the link that you were given (?token=): open that link, whole",
            )
        try:
            return _claims(self._decode(token))
        except jwt.ExpiredSignatureError:
            raise InvalidToken("token_expired", "This link, or its token, has expired: ask for a new one") from None
        except jwt.ImmatureSignatureError:
            raise InvalidToken("token_immature", "This link, or its token, is not good yet: try again later") from None
        except jwt.InvalidAlgorithmError:
            raise InvalidToken("token_algorithm", "The token's algorithm is not one that is taken here") from None
        except (jwt.InvalidTokenError, RecursionError, ValueError, OverflowError):
            raise InvalidToken(
                "token_invalid",
                "This link, or its token, is not valid here: open it whole, as you were given it, or ask for a new one",
            ) from None

    def _decode(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm == "HS256" and self._secret:
            return _verify(token, self._secret, "HS256")
        keys = [key for key in self._keys if key.algorithm_name == algorithm]
        if not keys:
            raise jwt.InvalidAlgorithmError
        named = [key for key in keys if key.key_id == header.get("kid")]
        failure: jwt.InvalidTokenError = jwt.InvalidSignatureError()
        for key in named or [key for key in keys if "kid" not in header or key.key_id is None]:
            try:
                return _verify(token, key, key.algorithm_name)
            except jwt.InvalidSignatureError as error:
                failure = error
        raise failure


def make_token(secret: bytes, claims: Claims) -> str:
    """Make a token for HS256.

    Raises:
        SignalingError: The secret is too short.
    """
    TokenKeys(secret=secret)
    said: dict[str, object] = {"iat": int(time.time())}
    if claims.subject:
        said["sub"] = claims.subject
    if claims.room is not None:
        said["room"] = claims.room
    if claims.roles:
        roles = sorted(claims.roles)
        said["role"] = roles[0] if len(roles) == 1 else roles
    if claims.name:
        said["name"] = claims.name
    if claims.expires is not None:
        said["exp"] = int(claims.expires)
    if claims.invitation:
        said["invitation"] = claims.invitation
    return jwt.encode(said, secret, algorithm="HS256")


def _verify(token: str, key: Any, algorithm: str) -> dict[str, Any]:  # noqa: ANN401  # bytes or a PyJWK
    # Whom a token is for is said by its room; an audience, which other services may want, is let pass.
    said = jwt.decode(token, key, algorithms=[algorithm], leeway=LEEWAY, options={"verify_aud": False})
    if "exp" in said and float(said["exp"]) <= time.time():  # no leeway there: the session would end at once
        raise jwt.ExpiredSignatureError
    return said


def _read_jwks(jwks: Mapping[str, Any] | Path) -> Sequence[jwt.PyJWK]:
    where = f"the key set {jwks}" if isinstance(jwks, Path) else "the key set"
    try:
        said = msgspec.json.decode(jwks.read_bytes()) if isinstance(jwks, Path) else jwks
        found = jwt.PyJWKSet.from_dict(dict(said))
    except (OSError, ValueError, TypeError, jwt.PyJWTError) as error:
        raise SignalingError(f"{where} cannot be used: {error}") from error
    keys = [key for key in found.keys if key.algorithm_name in ASYMMETRIC]
    if not keys:
        raise SignalingError(f"{where} holds no key for {' or '.join(ASYMMETRIC)}")
    return keys


def _claims(said: Mapping[str, Any]) -> Claims:
    subject, name, room, invitation, role = (said.get(key) for key in ("sub", "name", "room", "invitation", "role"))
    roles: list[Role] | None = [cast("Role", role)] if isinstance(role, str) else role
    texts = all(value is None or isinstance(value, str) for value in (subject, name, room, invitation))
    if not texts or not (roles is None or (isinstance(roles, list) and roles and all(one in ROLES for one in roles))):
        raise InvalidToken(
            "token_invalid", "A claim of the token is not what it must be: sub, room, role, name or invitation"
        )
    expires = said.get("exp")
    return Claims(
        subject=subject or "",
        room=room,
        roles=None if roles is None else frozenset(roles),
        name=name or "",
        expires=None if expires is None else float(expires),
        invitation=invitation or "",
    )

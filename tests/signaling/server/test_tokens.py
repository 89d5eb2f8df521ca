import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from synopticon_rtc.errors import InvalidToken, SignalingError
from synopticon_rtc.signaling.server.access import Role
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

SECRET = b"a secret of thirty-two bytes....."
OTHER = b"another secret of thirty-two bytes"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **more: str) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        said: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    else:
        said = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    return said | more


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


JWKS = {"keys": [jwk(RSA, kid="rsa", alg="RS256", use="sig"), jwk(EC, kid="ec")]}


def code_of(keys: TokenKeys, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        keys.check(token)
    return caught.value.code


def signed(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **headers: str) -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers or None)


def test_a_token_says_what_was_put_into_it() -> None:
    claims = Claims("alice", "lab", frozenset({"broadcast", "receive"}), "lab-1", float(int(time.time()) + 60))
    assert TokenKeys(secret=SECRET).check(make_token(SECRET, claims)) == claims


def test_a_token_need_say_nothing() -> None:
    assert TokenKeys(secret=SECRET).check(make_token(SECRET, Claims())) == Claims()


@pytest.mark.parametrize(
    ("role", "roles"),
    [("receive", {"receive"}), (["broadcast"], {"broadcast"}), (["receive", "broadcast"], {"receive", "broadcast"})],
)
def test_a_role_is_one_or_a_list(role: Any, roles: set[Role]) -> None:
    assert TokenKeys(secret=SECRET).check(signed({"role": role})).roles == frozenset(roles)


@pytest.mark.parametrize(
    ("key", "algorithm", "headers"),
    [
        (RSA, "RS256", {"kid": "rsa"}),
        (RSA, "RS256", {}),
        (EC, "ES256", {"kid": "ec"}),
        (EC, "ES256", {}),
        (SECRET, "HS256", {}),
    ],
)
def test_public_keys_and_a_secret_can_be_used_together(key: Any, algorithm: str, headers: dict[str, str]) -> None:
    keys = TokenKeys(secret=SECRET, jwks=JWKS)
    assert keys.check(signed({"sub": "alice"}, key, algorithm, **headers)).subject == "alice"


def test_a_key_set_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(JWKS))
    assert TokenKeys(jwks=file).check(signed({"sub": "alice"}, EC, "ES256")).subject == "alice"


def test_several_keys_without_a_name_are_tried_in_turn() -> None:
    old = ec.generate_private_key(ec.SECP256R1())
    keys = TokenKeys(jwks={"keys": [jwk(old), jwk(EC)]})
    for key in (old, EC):
        assert keys.check(signed({"sub": "alice"}, key, "ES256", kid="unknown")).subject == "alice"
    assert code_of(keys, signed({}, ec.generate_private_key(ec.SECP256R1()), "ES256")) == "token_invalid"


def unsigned() -> str:
    return jwt.encode({"sub": "alice"}, "", algorithm="none")


def confused() -> str:
    """Signed with a public key, as if that were a secret."""
    header, payload = (base64url_encode(json.dumps(part).encode()) for part in ({"alg": "HS256"}, {"sub": "mallory"}))
    signature = HMACAlgorithm(HMACAlgorithm.SHA256).sign(b"%b.%b" % (header, payload), pem(RSA))
    return f"{header.decode()}.{payload.decode()}.{base64url_encode(signature).decode()}"


def tampered() -> str:
    header, _, signature = signed({"role": "receive"}).split(".")
    payload = base64url_encode(b'{"role":"broadcast"}').decode()
    return f"{header}.{payload}.{signature}"


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "none at all": (lambda: "", "token_missing"),
    "no token": (lambda: "hello", "token_invalid"),
    "unsigned": (unsigned, "token_algorithm"),
    "a longer hash": (lambda: signed({}, SECRET * 2, "HS512"), "token_algorithm"),
    "a curve that is not taken": (
        lambda: signed({}, ec.generate_private_key(ec.SECP384R1()), "ES384"),
        "token_algorithm",
    ),
    "another secret": (lambda: signed({}, OTHER), "token_invalid"),
    "another key": (
        lambda: signed({}, rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256", kid="rsa"),
        "token_invalid",
    ),
    "a public key for a secret": (confused, "token_invalid"),
    "tampered with": (tampered, "token_invalid"),
    "expired": (lambda: signed({"exp": int(time.time()) - 1}), "token_expired"),
    "not yet good": (lambda: signed({"nbf": int(time.time()) + 60}), "token_immature"),
    "an unknown role": (lambda: signed({"role": "admin"}), "token_invalid"),
    "no role": (lambda: signed({"role": []}), "token_invalid"),
    "a room that is no text": (lambda: signed({"room": 7}), "token_invalid"),
    "a name that is no text": (lambda: signed({"name": ["x"]}), "token_invalid"),
    "an end that is no time": (lambda: signed({"exp": float("inf")}), "token_invalid"),
}


@pytest.mark.parametrize(("make", "code"), REFUSED.values(), ids=REFUSED)
def test_all_other_tokens_are_refused_with_a_code(make: Callable[[], str], code: str) -> None:
    assert code_of(TokenKeys(secret=SECRET, jwks=JWKS), make()) == code


def test_a_kind_of_key_that_is_not_there_makes_its_algorithms_unknown() -> None:
    assert code_of(TokenKeys(secret=SECRET), signed({}, EC, "ES256")) == "token_algorithm"
    assert code_of(TokenKeys(jwks=JWKS), signed({})) == "token_algorithm"


texts = st.text() | st.lists(st.sampled_from(["", "e30", "eyJhbGciOiJIUzI1NiJ9", "bnVsbA", "W10"]), max_size=4).map(
    ".".join
)


@given(token=texts | st.text(alphabet="ey._-aA0").map(lambda text: f"eyJhbGciOiJIUzI1NiJ9.{text}"))
def test_no_text_is_more_than_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        TokenKeys(secret=SECRET, jwks=JWKS).check(token)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give a secret or a JWKS file"),
        ({"secret": b"short"}, "32 bytes at least, this one has 5"),
        ({"jwks": {"keys": []}}, "cannot be used"),
        ({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}, "holds no key for RS256 or ES256"),
        ({"jwks": Path("/nowhere/jwks.json")}, "/nowhere/jwks.json cannot be used"),
    ],
)
def test_keys_that_are_none_are_one_clear_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SignalingError, match=message):
        TokenKeys(**options)


def test_a_key_set_that_is_no_json_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    for text in ("", "[]", '{"keys": 7}', "{"):
        file.write_text(text)
        with pytest.raises(SignalingError, match=str(file)):
            TokenKeys(jwks=file)


def test_a_token_is_not_made_with_a_short_secret() -> None:
    with pytest.raises(SignalingError, match="32 bytes"):
        make_token(b"short", Claims())

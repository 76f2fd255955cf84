"""Signatures of webhooks: they prove that a holder of the secret has sent this body, and just now.

A signature is an HMAC-SHA256 over the time and the body. It is valid for five minutes, so nobody can keep a webhook and
send it again later. The payment service signs each delivery separately.
"""

import hashlib
import hmac
import re

HEADER = "Widget-Signature"
TOLERANCE_SECONDS = 300


class SignatureError(Exception):
    """A webhook has no valid signature; the message says why."""


def sign(secret: str, body: bytes, now_seconds: int) -> str:
    """Return the header's value for a body that is sent now."""
    return f"t={now_seconds},v1={_digest(secret, body, str(now_seconds))}"


def check(secret: str, header: str | None, body: bytes, now_seconds: int) -> None:
    """Return if the signature is valid.

    Raises:
        SignatureError: The signature is missing, stale, or was made with another secret or for another body.
    """
    match = re.fullmatch(r"t=(\d{1,12}),v1=([0-9a-f]{64})", header or "", re.ASCII)
    if match is None:
        raise SignatureError(f"The webhook has no signature: send the header {HEADER}: t=<seconds>,v1=<HMAC-SHA256>.")
    # In constant time, so that the time of a refusal does not reveal how much of the signature was right.
    if not hmac.compare_digest(match[2], _digest(secret, body, match[1])):
        raise SignatureError(
            "The webhook's signature is wrong: sign the time and this very body with the right secret."
        )
    if abs(now_seconds - int(match[1])) > TOLERANCE_SECONDS:
        raise SignatureError("The webhook's signature is stale: sign each delivery separately, with a correct clock.")


def _digest(secret: str, body: bytes, time: str) -> str:
    return hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()

"""Signatures of webhooks: who knows the secret has sent this body, and a moment ago.

HMAC-SHA256 over the time and the body. A signature that is older than five minutes counts no more, so that nobody can
keep a webhook and send it again later; the payment service signs each delivery anew.
"""

import hashlib
import hmac
import re

HEADER = "Widget-Signature"
TOLERANCE_SECONDS = 300


class SignatureError(Exception):
    """A webhook is not signed as it should be; the message says why."""


def sign(secret: str, body: bytes, now_seconds: int) -> str:
    """Return the header's value for a body that is sent now."""
    return f"t={now_seconds},v1={_digest(secret, body, str(now_seconds))}"


def check(secret: str, header: str | None, body: bytes, now_seconds: int) -> None:
    """Return if the signature is right.

    Raises:
        SignatureError: It is missing, too old, or made with another secret or for another body.
    """
    match = re.fullmatch(r"t=(\d{1,12}),v1=([0-9a-f]{64})", header or "", re.ASCII)
    if match is None:
        raise SignatureError(f"The webhook has no signature: send the header {HEADER}: t=<seconds>,v1=<HMAC-SHA256>.")
    # In constant time: how long a refusal takes does not tell how much of the signature was right.
    if not hmac.compare_digest(match[2], _digest(secret, body, match[1])):
        raise SignatureError(
            "The webhook's signature is wrong: sign the time and this very body with the right secret."
        )
    if abs(now_seconds - int(match[1])) > TOLERANCE_SECONDS:
        raise SignatureError(
            "The webhook's signature is stale: sign it anew for each delivery, with a clock that is right."
        )


def _digest(secret: str, body: bytes, time: str) -> str:
    return hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()

import base64
import hashlib
import hmac
import time


def verify(secret: str, headers, body: bytes, tolerance_s: int = 300) -> None:
    """Raises ValueError unless the message is signed with the secret and recent. `body` is what was received, byte by byte."""
    message_id, sent_at = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(sent_at)) > tolerance_s:
        raise ValueError("too old, or from the future")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = message_id.encode() + b"." + sent_at.encode() + b"." + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # Several while a secret is being rotated.
    signatures = headers["webhook-signature"].split(" ")
    if not any(hmac.compare_digest(expected, signature) for signature in signatures):
        raise ValueError("not signed with this secret")

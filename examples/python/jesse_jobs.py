"""What both examples need: a client of the server that the environment names, and answers that say what is wrong."""

import os

import httpx

# Waits of the server are longer than the five seconds that httpx gives a call.
TIMEOUT = httpx.Timeout(60)


def connect() -> httpx.Client:
    """A client of JESSE_JOBS_URL, with the key JESSE_JOBS_KEY if there is one."""
    key = os.environ.get("JESSE_JOBS_KEY")
    return httpx.Client(
        base_url=os.environ.get("JESSE_JOBS_URL", "http://127.0.0.1:8100"),
        headers={"authorization": f"Bearer {key}"} if key else {},
        timeout=TIMEOUT,
    )


def answer(response: httpx.Response) -> dict:
    """The body of an answer. A refusal says what is wrong, and what is allowed, in words."""
    if response.is_error:
        response.read()
        raise SystemExit(f"{response.status_code}: {response.text}")
    return response.json()

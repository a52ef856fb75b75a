"""Requests to NocoDB: headers, pace, timeouts, retries, errors told apart. Rows and tables are elsewhere."""

import json
import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, urlencode

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from cai_assets.failures import TransientError, call_with_retries
from cai_assets.resources.rate_limit import RateLimiter
from cai_assets.resources.source import (
    SourceAccessError,
    SourceError,
    SourceMissingError,
    SourceUnavailableError,
)

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
# A page of 1000 rows took up to 2 s on a loaded server; count(*) on large tables is what can take long.
READ_SECONDS = 120.0
# NocoDB blocks a token for 30 s when it asks too often, and does not always say so in Retry-After.
BLOCKED_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 300.0
MESSAGE_CHARACTERS = 300


class NocoDBRefusalError(SourceError):
    """NocoDB refused a request for good.

    Attributes:
        status: HTTP status.
        code: the body's `error`, as ERR_TABLE_NOT_FOUND; empty where it has none.
    """

    def __init__(self, message: str, *, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NocoDBAccessError(NocoDBRefusalError, SourceAccessError):
    """The token is wrong, or may not read this."""


class NocoDBMissingError(NocoDBRefusalError, SourceMissingError):
    """What the address names does not exist."""


@dataclass
class Tally:
    """Requests made on behalf of one read; used by one thread at a time."""

    requests: int = 0


class _Token(requests.auth.AuthBase):
    """Both headers: `xc-token` works on all versions, Bearer is what newer ones document.

    Setting them as `auth` keeps requests from putting a netrc entry in their place.
    """

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        secret = self._token.get_secret_value()
        request.headers["xc-token"] = secret
        request.headers["Authorization"] = f"Bearer {secret}"
        return request


class NocoDBClient:
    """GET requests to one NocoDB server, from any number of threads at one common pace."""

    def __init__(
        self,
        base_url: str,
        token: SecretStr,
        *,
        limiter: RateLimiter,
        max_retries: int,
        retry_delay: float,
        connections: int = 1,
        blocked_seconds: float = BLOCKED_SECONDS,
    ) -> None:
        """Make a client; nothing is sent yet.

        Args:
            base_url: the server's root, without /api and without a slash at its end.
            token: API token.
            limiter: pace of all requests.
            max_retries: further tries of a request after a failure that can pass.
            retry_delay: seconds before the first of them.
            connections: most connections kept open.
            blocked_seconds: wait after a 429 that names none.
        """
        self.base_url = base_url
        self._token = token
        self._limiter = limiter
        self._max_retries = max_retries
        self._retry_delay = retry_delay
        self._blocked_seconds = blocked_seconds
        self._session = requests.Session()
        self._session.auth = _Token(token)
        self._session.headers["Accept"] = "application/json"
        # Sessions are shared by threads; the only state that requests would change meanwhile is cookies.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=max(1, connections))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._tally_lock = threading.Lock()
        self.requests = 0
        self.served_at: datetime | None = None
        """The server's time by the Date header of its newest answer; None where it sends none."""

    def url(self, path: str, params: Mapping[str, str | int] | None = None) -> str:
        """The whole address, each value percent-encoded once (a raw `+` would be read as a blank)."""
        query = urlencode(dict(params or {}), quote_via=quote, safe="")
        return f"{self.base_url}{path}" + (f"?{query}" if query else "")

    def get(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        what: str,
        tally: Tally | None = None,
    ) -> Any:
        """The JSON that the server answers with.

        Args:
            path: from `/api` on.
            params: query, not encoded.
            what: the request in words, for messages: "list the tables of base 'support'".
            tally: counts each try.

        Raises:
            NocoDBRefusalError: trying again cannot help.
            SourceUnavailableError: it did not work within the retries.
        """
        return call_with_retries(
            self._max_retries, self._retry_delay, self._get_once, self.url(path, params), what, tally
        )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _get_once(self, url: str, what: str, tally: Tally | None) -> Any:
        self._limiter.acquire()
        with self._tally_lock:
            self.requests += 1
        if tally is not None:
            tally.requests += 1
        try:
            # Redirects are refused: the token would travel along to wherever they point.
            response = self._session.get(url, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise self._not_reached(error, what) from None
        except requests.RequestException as error:
            raise SourceError(
                f"cannot {what}: {type(error).__name__}; is NOCODB_BASE_URL={self.base_url} right?"
            ) from None
        return self._answer(response, what)

    def _not_reached(self, error: requests.RequestException, what: str) -> Exception:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return SourceError(
                f"cannot {what}: the certificate of {self.base_url} is not trusted; "
                "name its authority in REQUESTS_CA_BUNDLE"
            )
        kind = "no answer in time" if isinstance(error, requests.Timeout) else "no whole answer"
        if "refused" in str(error):
            kind = "connection refused"
        elif "resolve" in str(error):
            kind = "unknown host"
        return self._transient(
            f"cannot {what}: {kind} from NocoDB at {self.base_url} ({type(error).__name__}). "
            "Is the server running, and NOCODB_BASE_URL right?"
        )

    def _transient(self, message: str, wait: float | None = None) -> TransientError:
        logger.info("%s", message)
        return SourceUnavailableError(message, retry_after=wait)

    def _answer(self, response: requests.Response, what: str) -> Any:
        status = response.status_code
        if status == 429:
            wait = self._wait_asked(response)
            self._limiter.pause(wait)
            raise self._transient(
                f"cannot {what}: NocoDB refuses more requests for {wait:g} s (429). "
                "If this happens often, lower NOCODB_MAX_REQUESTS_PER_SECOND",
                wait,
            )
        if status >= 500:
            _, message = self._error_of(response)
            wait_or_none = self._wait_asked(response) if "Retry-After" in response.headers else None
            raise self._transient(f"cannot {what}: NocoDB failed with {status}: {message}", wait_or_none)
        if status != 200:
            raise self._refusal(response, what)
        if "html" in response.headers.get("Content-Type", ""):
            raise SourceError(
                f"cannot {what}: {self.base_url} answers with a web page; NOCODB_BASE_URL is the server's "
                "root, without /api or /dashboard"
            )
        self.served_at = _date_of(response) or self.served_at
        try:
            return response.json()
        except ValueError:
            raise self._transient(
                f"cannot {what}: the answer broke off or is no JSON ({len(response.content)} bytes)"
            ) from None

    def _wait_asked(self, response: requests.Response) -> float:
        """Seconds of Retry-After, a number or a date, within bounds; else how long NocoDB blocks."""
        value = response.headers.get("Retry-After", "").strip()
        seconds = self._blocked_seconds
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
            except (ValueError, TypeError):  # TypeError: a date without a zone
                logger.debug("Retry-After %r is neither a number nor a date", value)
        if not math.isfinite(seconds):
            seconds = self._blocked_seconds
        return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)

    def _error_of(self, response: requests.Response) -> tuple[str, str]:
        """Code and message of an error body in any of its shapes, without stack traces and the token."""
        code, message = "", ""
        try:
            body = json.loads(response.content)
        except ValueError:
            kind = response.headers.get("Content-Type", "no content type").split(";")[0]
            message = f"a body of {kind} instead of JSON" if response.content else "an empty body"
        else:
            if isinstance(body, dict):
                code = str(body.get("error") or "")
                message = str(body.get("message") or body.get("msg") or code or "no message")
            else:
                message = "no message"
        message = " ".join(message.split())[:MESSAGE_CHARACTERS]
        return code, message.replace(self._token.get_secret_value(), "***")

    def _refusal(self, response: requests.Response, what: str) -> NocoDBRefusalError:
        status = response.status_code
        code, message = self._error_of(response)
        said = f"cannot {what}: NocoDB answers {status}"
        if status == 401:
            return NocoDBAccessError(
                f"{said}: {message}. NOCODB_API_TOKEN is wrong or was deleted; make one in NocoDB under "
                "Account settings, Tokens",
                status=status,
                code=code,
            )
        if status == 403:
            return NocoDBAccessError(
                f"{said}: {message}. The user of NOCODB_API_TOKEN may not read the base that "
                "NOCODB_PROJECT_ID names: correct it, give the user at least the viewer role on it, or "
                "take another user's token",
                status=status,
                code=code,
            )
        if status == 404 or code in {"ERR_BASE_NOT_FOUND", "ERR_TABLE_NOT_FOUND"}:
            return NocoDBMissingError(
                f"{said}: {message}. {_MENDS.get(code, _MENDS[''])}", status=status, code=code
            )
        if 300 <= status < 400:
            target = response.headers.get("Location", "elsewhere").split("?")[0][:MESSAGE_CHARACTERS]
            message, mend = f"go to {target}", "Set NOCODB_BASE_URL to the address that answers itself"
        elif status == 431 or status == 414:
            mend = "The address is too long for a server or proxy on the way; shorter conversation ids help"
        else:
            mend = (
                "A column that was renamed or whose type changed since the start gives this; run `cai doctor`"
            )
        return NocoDBRefusalError(f"{said}: {message}. {mend}", status=status, code=code)


def _date_of(response: requests.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError):
        return None


_MENDS = {
    "": "NOCODB_BASE_URL is the server's root, without /api",
    "ERR_BASE_NOT_FOUND": "Check NOCODB_PROJECT_ID",
    "ERR_TABLE_NOT_FOUND": "Check NOCODB_CONVERSATION_TABLE and NOCODB_MESSAGES_TABLE",
    "ERR_FIELD_NOT_FOUND": "A column was renamed or removed; see NOCODB_FIELD_MAP",
}

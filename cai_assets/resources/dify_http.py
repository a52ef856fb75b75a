"""HTTP to Dify's Service API: the key, timeouts, streams, no redirects. What requests mean is not here."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from cai_assets.resources.dify_errors import ConnectionLostError, DifyFailure, error_of, shown

# Bytes asked of a socket at once; a stream gives what has come, without waiting for more.
_READ_BYTES: Final = 65_536
# How long the rest of a finished stream may take before its connection is thrown away, seconds.
_DRAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    Attributes:
        connect: for a connection.
        request: for the answer of a request that runs nothing.
        queue: in streaming, for the first event; Dify's workers take four runs at a time by default, and a
            queued run is silent.
        idle: between bytes once a run has started; Dify pings every 10 s.
        total: for one run, from the question to its end; above the server's own limit of 1200.
        grace: how long a run that was perhaps started may be missing from Dify's log before it counts as
            never started.
        stopped: how long a run that nobody stopped may stay `stopped`: past APP_MAX_EXECUTION_TIME Dify says
            so of runs that go on and succeed.
        poll: between looks at a run that cannot be listened to, at first.
    """

    connect: float = 10.0
    request: float = 30.0
    queue: float = 300.0
    idle: float = 45.0
    total: float = 1300.0
    grace: float = 15.0
    stopped: float = 30.0
    poll: float = 1.0


class LostError(Exception):
    """The connection failed at a moment when the server may have taken the request.

    Attributes:
        failure: what to raise where it turns out that nothing was started.
    """

    def __init__(self, failure: DifyFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class _BearerAuth(AuthBase):
    """The key as a header; being the session's auth, it keeps a `.netrc` from replacing it."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return request


class DifyHttp:
    """Requests with a key, one session a thread. Threads may share it.

    Args:
        base_url: the Service API's address, with /v1.
        api_key: of one app.
        timeouts: see `Timeouts`.
    """

    def __init__(self, base_url: str, api_key: SecretStr, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self._base_url = base_url.rstrip("/")
        self._address = urlsplit(self._base_url).netloc.rpartition("@")[2]  # no user, no password
        self._key = api_key
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: list[requests.Session] = []

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show: the key, and a password in the address."""
        userinfo = re.match(r"https?://([^/@]+)@", self._base_url)
        password = userinfo.group(1).partition(":")[2] if userinfo else ""
        return tuple(filter(None, (self._key.get_secret_value(), password)))

    def send(
        self, method: str, path: str, *, read_timeout: float | None = None, **options: Any
    ) -> requests.Response:
        """Send one request and return its response, whatever its status; nothing is tried again.

        Args:
            method: HTTP method.
            path: below the base address, as "/workflows/run".
            read_timeout: seconds of silence allowed; the timeout of plain requests where None.
            options: passed to requests (`json`, `params`, `files`, `data`, `stream`).

        Raises:
            ConnectionLostError: no connection was made, so the server has not seen the request.
            LostError: the connection broke after that; the server may have seen it.
        """
        what = f"{method} {path}"
        timeout = (self.timeouts.connect, self.timeouts.request if read_timeout is None else read_timeout)
        try:
            return self._session().request(
                method, self._base_url + path, timeout=timeout, allow_redirects=False, **options
            )
        except requests.ConnectionError as error:
            if _never_sent(error):
                raise ConnectionLostError(
                    f"Dify: no connection to {self._address} for {what} ({self._cause(error)}): is "
                    "DIFY_BASE_URL right, and is Dify started?"
                ) from None
            raise self.lost(what, error) from None
        except requests.RequestException as error:
            raise self.lost(what, error) from None

    def lost(self, what: str, error: Exception) -> LostError:
        """A broken connection as the error of this module."""
        return LostError(
            ConnectionLostError(f"Dify: the connection broke during {what} ({self._cause(error)})")
        )

    def _cause(self, error: BaseException) -> str:
        # The text of requests' errors repeats the address and, through it, a password; the root's type does
        # not.
        reason = error.args[0] if error.args and isinstance(error.args[0], BaseException) else error
        root = getattr(reason, "reason", reason)
        return shown(type(root).__name__, *self.secrets)

    def failure(self, response: requests.Response, what: str) -> DifyFailure:
        """The typed error of a response that is no success; its body is read."""
        try:
            content = response.content
        except requests.RequestException:
            content = b""
        return error_of(
            response.status_code,
            content,
            what,
            *self.secrets,
            retry_after=_retry_after(response.headers.get("Retry-After")),
        )

    def json(self, response: requests.Response, what: str) -> Mapping[str, Any]:
        """The JSON object of a successful response.

        Raises:
            DifyFailure: the typed error of any other status.
            LostError: the body is no JSON object, as where a proxy answered in Dify's place.
        """
        if response.status_code not in (200, 201):
            raise self.failure(response, what)
        try:
            body = response.json()
        except requests.RequestException as error:
            raise self.lost(what, error) from None
        if not isinstance(body, Mapping):
            raise self.lost(what, TypeError())
        return body

    def call(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        """Send a request that starts no run, and return its JSON object.

        Raises:
            DifyFailure: the typed error; ConnectionLostError also where the connection broke.
        """
        try:
            return self.json(self.send(method, path, **options), f"{method} {path}")
        except LostError as error:
            raise error.failure from None

    def check_served(self, response: requests.Response, what: str) -> None:
        """Make sure that no 5xx stands between us and what the server may have begun.

        Raises:
            LostError: one does; a proxy's 504 says nothing of the run behind it.
        """
        if response.status_code >= 500:
            raise LostError(self.failure(response, what))

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.auth = _BearerAuth(self._key)
            session.headers["User-Agent"] = "cai_assets"
            adapter = HTTPAdapter(pool_connections=1, pool_maxsize=2, max_retries=0)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            # The environment's proxies and certificates, read once: requests reads them for every request,
            # which takes a fifth of its time.
            found = session.merge_environment_settings(self._base_url, {}, False, None, None)
            session.proxies, session.verify, session.cert = found["proxies"], found["verify"], found["cert"]
            session.trust_env = False
            self._local.session = session
            with self._lock:
                self._sessions.append(session)
        return session


class EventBytes:
    """The bytes of a streamed response as they come, until its end or the deadline.

    Pings are bytes too: they keep the socket's timeout from passing, and give the deadline and a cancellation
    their chance.
    """

    def __init__(self, response: requests.Response, deadline: float, cancelled: threading.Event) -> None:
        self._response = response
        self._deadline = deadline
        self._cancelled = cancelled

    def __iter__(self) -> Iterator[bytes]:
        raw = self._response.raw
        while chunk := raw.read1(_READ_BYTES, decode_content=True):
            yield chunk
            if time.monotonic() > self._deadline or self._cancelled.is_set():
                return

    def allow_silence(self, seconds: float) -> None:
        """Set how long the socket may be silent from now on, where the socket can still be reached."""
        connection = self._response.raw.connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(seconds)

    def drain(self) -> None:
        """Read what is left after the last event, so that the connection serves the next request."""
        self.allow_silence(_DRAIN_S)
        with suppress(urllib3.exceptions.HTTPError, OSError):
            # The result is there already; a connection that breaks now is merely not used again.
            while self._response.raw.read1(_READ_BYTES, decode_content=True):
                pass

    def close(self) -> None:
        """Give the connection back, or close it where something is left to read."""
        self._response.close()


def _never_sent(error: requests.ConnectionError) -> bool:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        reason, NewConnectionError | ConnectTimeoutError
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number of them or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None

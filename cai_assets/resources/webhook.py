"""Posting a text to a chat's incoming webhook: one JSON object, tried again, the address kept secret."""

from urllib.parse import urlsplit

import requests
from pydantic import SecretStr

from cai_assets.failures import PermanentError, TransientError, retrying

# Connecting, and each wait for an answer. With two further tries a post ends within 25 s: a tick of the
# sensor has 60.
TIMEOUT_SECONDS = (3.05, 5.0)
FURTHER_TRIES = 2
DELAY_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 5.0


class Webhook:
    """An address that takes `{"text": ...}`: Slack, Mattermost, Rocket.Chat, Google Chat, Teams and others.

    Args:
        url: the address; whoever knows it can post, so no message shows more of it than the host.
        delay: seconds before the second try at most.
    """

    def __init__(self, url: SecretStr, *, delay: float = DELAY_SECONDS) -> None:
        self._url = url
        self._delay = delay
        self.host = urlsplit(url.get_secret_value()).hostname or "?"

    def post(self, text: str) -> None:
        """Post one text.

        Raises:
            TransientError: nobody answered, or the server is busy or broken, three times.
            PermanentError: it refuses: the address is wrong, or was withdrawn.
        """
        retrying(FURTHER_TRIES, self._delay, longest=LONGEST_WAIT_SECONDS)(self._post, text)

    def _post(self, text: str) -> None:
        try:
            answer = requests.post(
                self._url.get_secret_value(),
                json={"text": text},
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,  # to a sign-in page it would look like success
            )
        except requests.ConnectionError:  # `from None`: the text of requests' errors holds the address
            raise TransientError(f"ALERT_WEBHOOK_URL: {self.host} cannot be reached") from None
        except requests.Timeout:
            raise TransientError(f"ALERT_WEBHOOK_URL: {self.host} does not answer") from None
        except requests.RequestException as error:
            raise PermanentError(f"ALERT_WEBHOOK_URL: {type(error).__name__}; check the address") from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise TransientError(f"ALERT_WEBHOOK_URL: {self.host} answers {answer.status_code}")
        if not answer.ok or answer.is_redirect:
            raise PermanentError(
                f"ALERT_WEBHOOK_URL: {self.host} answers {answer.status_code}; make a new incoming webhook "
                "in the chat's settings if it was withdrawn"
            )

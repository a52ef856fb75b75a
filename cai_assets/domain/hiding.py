"""Keeping secrets out of what people read. Which values are secret is the settings' business."""

from pydantic import SecretStr

from cai_assets.settings import Settings

HIDDEN = "********"


class Secrets:
    """The values that must not be printed, whoever wrote them into a message."""

    def __init__(self, settings: Settings) -> None:
        """Know the secrets of these settings."""
        values = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
        # A password inside an address is a secret of its own: scheme://user:password@host.
        passwords = [value.partition("://")[2].rpartition("@")[0].partition(":")[2] for value in values]
        self._values = sorted({*values, *passwords} - {""}, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """The text with asterisks in place of secrets."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        return text

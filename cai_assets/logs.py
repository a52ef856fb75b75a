"""LOG_LEVEL and LOG_FILE: what the platform's and Dagster's loggers write beside the terminal and the UI.

What is logged belongs to those who log; nothing of a message's text is.
"""

import logging
import time
from pathlib import Path

from cai_assets.failures import PermanentError
from cai_assets.settings import Settings

LOGGERS = ("cai_assets", "dagster")
_FORMAT = "%(asctime)sZ %(levelname)s %(process)d %(name)s: %(message)s"


class SettingsHandler(logging.FileHandler):
    """The handler of LOG_FILE, told apart from those of others."""


def open_log(path: Path) -> SettingsHandler:
    """A handler that appends to the file, UTC times; whole lines, so that several processes may share it.

    Raises:
        PermanentError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = SettingsHandler(path, encoding="utf-8")
    except OSError as error:
        raise PermanentError(
            f"LOG_FILE={path} cannot be written ({error.strerror}); name another file, or unset it"
        ) from error
    formatter = logging.Formatter(_FORMAT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler


def follow_settings(settings: Settings) -> None:
    """Let the loggers keep to LOG_LEVEL and write to LOG_FILE; called again, the newer settings count.

    Raises:
        PermanentError: LOG_FILE cannot be written.
    """
    handler = open_log(settings.log_file) if settings.log_file is not None else None
    if handler is not None:
        handler.setLevel(settings.log_level)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for old in [one for one in logger.handlers if isinstance(one, SettingsHandler)]:
            logger.removeHandler(old)
            old.close()
        if handler is not None:
            logger.addHandler(handler)
    logging.getLogger("cai_assets").setLevel(settings.log_level)

"""What `cai doctor` finds, and how a look that fails becomes a finding. What is looked at is `checkup`'s."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from cai_assets.domain.hiding import Secrets
from cai_assets.failures import CaiError

logger = logging.getLogger(__name__)

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what, in a word or two.
        status: ok; warn (works, but a person should look); fail (does not work).
        text: what was found; never a secret.
        mend: what to do, where something is to be done.
    """

    subject: str
    status: Status
    text: str
    mend: str = ""


def cleaned(finding: Finding, secrets: Secrets) -> Finding:
    """The finding without secrets."""
    return replace(finding, text=secrets.hide(finding.text), mend=secrets.hide(finding.mend))


def guarded(subject: str, look: Callable[[], Iterable[Finding]], mend: str = "") -> list[Finding]:
    """What a look finds; an error is a finding too, whoever raised it: the other looks are still wanted.

    Args:
        subject: of the finding where the look fails.
        look: gives findings.
        mend: what to do where it fails.
    """
    found: list[Finding] = []
    try:
        found.extend(look())
    except (CaiError, OSError) as error:
        found.append(Finding(subject, "fail", str(error), mend))
    except Exception as error:
        logger.debug("%s", subject, exc_info=True)
        found.append(Finding(subject, "fail", f"{type(error).__name__}: {error}", mend))
    return found

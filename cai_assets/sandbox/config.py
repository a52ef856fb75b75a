"""What a sandbox is started with, and the fixed ids and keys it answers to.

Constants and plain settings only. The keys are no secrets: they open nothing but a sandbox on loopback.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Dialect = Literal["postgres", "sqlite"]

BASE_ID = "pcaisandbox0001"
BASE_TITLE = "conversations"
TABLE_IDS: Mapping[str, str] = {"conversations": "mconversations1", "messages": "mmessages000001"}
NOCODB_TOKEN = "sandbox-nocodb-token-not-a-secret"  # noqa: S105  opens only a sandbox on loopback
TRANSLATION_KEY = "app-sandbox-translation-not-a-secret"
TRANSLATION_LIST_KEY = "app-sandbox-translation-list-not-a-secret"
CATEGORY_KEY = "app-sandbox-category-not-a-secret"


@dataclass(frozen=True)
class SandboxConfig:
    """Settings of one sandbox.

    Attributes:
        data: folder with conversations.parquet and messages.parquet, or `sample` for generated conversations.
        sample_options: arguments of `cai_assets.sandbox.sample.generate`, such as `days`.
        dialect: the database NocoDB runs on; it changes how JSON, checkboxes and bad dates are printed.
        latency: seconds the language model behind a Dify workflow takes.
        concurrency_limit: runs of one Dify app under way at once before `Too many requests`; 0: no limit.
        workers: streams Dify's workers run at once, the others wait after their first ping; 0: no limit.
        hang_seconds: how long Dify keeps a stream open that will never say anything (measured: 300).
        ping_seconds: time between the pings of a running stream (measured: 10).
        faults: what `PUT /sandbox/faults` takes, applied from the start.
    """

    data: str = "sample"
    sample_options: Mapping[str, Any] = field(default_factory=dict)
    dialect: Dialect = "postgres"
    latency: float = 0.0
    concurrency_limit: int = 0
    workers: int = 0
    hang_seconds: float = 300.0
    ping_seconds: float = 10.0
    faults: Mapping[str, Any] = field(default_factory=dict)


def environment(base_url: str) -> dict[str, str]:
    """The settings that point the platform at the sandbox at `base_url` (without a path)."""
    return {
        "NOCODB_BASE_URL": base_url,
        "NOCODB_API_TOKEN": NOCODB_TOKEN,
        "NOCODB_PROJECT_ID": BASE_ID,
        "NOCODB_CONVERSATION_TABLE": TABLE_IDS["conversations"],
        "NOCODB_MESSAGES_TABLE": TABLE_IDS["messages"],
        "NOCODB_MAX_REQUESTS_PER_SECOND": "1000",
        "DIFY_BASE_URL": f"{base_url}/v1",
        "DIFY_TRANSLATION_API_KEY": TRANSLATION_KEY,
        "DIFY_CATEGORY_API_KEY": CATEGORY_KEY,
    }

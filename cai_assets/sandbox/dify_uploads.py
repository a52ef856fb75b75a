"""Files that were uploaded to the sandbox's Dify: what is told of them, and which runs may use them.

Their content is let go of: no workflow of the sandbox reads a file. Keys, users and runs are dify.py's.
"""

import time
from collections.abc import Callable
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from cai_assets.sandbox.dify_apps import MAX_UPLOAD_BYTES
from cai_assets.sandbox.dify_wire import Asked, RefusedError, multipart
from cai_assets.sandbox.workflows import App

_DOCUMENTS = frozenset(
    [
        "txt",
        "md",
        "mdx",
        "markdown",
        "pdf",
        "html",
        "htm",
        "xlsx",
        "xls",
        "docx",
        "doc",
        "csv",
        "eml",
        "msg",
        "pptx",
        "ppt",
        "xml",
        "epub",
        "json",
    ]
)
_IMAGES = frozenset(["jpg", "jpeg", "png", "webp", "gif", "svg"])


class Uploads:
    """The uploaded files of all apps.

    Args:
        user_id: gives Dify's id of an app's user.
    """

    def __init__(self, user_id: Callable[[App, str], str]) -> None:
        self._user_id = user_id
        # By id: the app's id, the user who uploaded it, and its kind.
        self._files: dict[str, tuple[str, str, str]] = {}

    def take(self, asked: Asked) -> dict[str, Any]:
        """Take in the file of a form and tell of it as `POST /files/upload` does.

        Raises:
            RefusedError: there is no file, or it is too large.
        """
        fields = multipart(asked.headers.get(b"content-type", b""), asked.body)
        part = fields.get("file")
        if part is None:
            raise RefusedError(400, "no_file_uploaded", "Please upload your file.")
        content = part.get_payload(decode=True)
        size = len(content) if isinstance(content, bytes) else 0
        if size > MAX_UPLOAD_BYTES:
            raise RefusedError(413, "file_too_large", "")
        user = str(fields["user"].get_content()).strip() if "user" in fields else ""
        name = part.get_filename() or "file"
        extension = name.rpartition(".")[2].lower() if "." in name else ""
        kind = "document" if extension in _DOCUMENTS else "image" if extension in _IMAGES else "custom"
        file_id, now = str(uuid4()), int(time.time())
        self._files[file_id] = (asked.app.id, user, kind)
        return {
            "id": file_id,
            "name": name,
            "size": size,
            "extension": extension,
            "mime_type": part.get_content_type(),
            "created_by": self._user_id(asked.app, user),
            "created_at": now,
            "preview_url": None,
            "source_url": f"http://127.0.0.1/files/{file_id}/file-preview?timestamp={now}&nonce=0&sign=0",
            "original_url": None,
            "user_id": None,
            "tenant_id": str(uuid5(NAMESPACE_URL, "sandbox:tenant")),
            "conversation_id": None,
            "file_key": None,
        }

    def check(self, app: App, user: str, files: list[dict[str, Any]]) -> None:
        """Make sure that a run may use these files: its user uploaded them here, and they are what it says.

        Raises:
            RefusedError: one of them it may not use.
        """
        for file in files:
            if file.get("transfer_method") != "local_file":
                continue
            uploaded = self._files.get(str(file.get("upload_file_id")))
            if uploaded is None or uploaded[:2] != (app.id, user):
                raise RefusedError(400, "invalid_param", "Invalid upload file")
            if file.get("type") not in (uploaded[2], "custom"):
                message = "Detected file type does not match the specified type. Please verify the file."
                raise RefusedError(400, "invalid_param", message)

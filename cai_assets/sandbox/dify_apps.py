"""The sandbox's Dify apps: their inputs, and what Dify tells about an app.

How an app answers is in answers.py, what a run is in workflows.py.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cai_assets.sandbox.answers import Answer, Translator, categoriser
from cai_assets.sandbox.config import CATEGORY_KEY, TRANSLATION_KEY, TRANSLATION_LIST_KEY
from cai_assets.sandbox.workflows import App, Variable

MAX_UPLOAD_BYTES = 15 * 1024 * 1024


def published_apps(translator: Translator) -> tuple[App, ...]:
    """The apps of every sandbox; their ids are made from their names and so the same everywhere."""
    translation = (
        Variable("text", "paragraph", required=True, max_length=50_000),
        Variable("source_language", "text-input", required=False, max_length=48),
        Variable("target_language", "text-input", required=True, max_length=48),
    )
    listed = (Variable("texts", "paragraph", required=True, max_length=50_000), *translation[1:])
    category = (
        Variable("transcript", "paragraph", required=True, max_length=200_000),
        Variable("categories", "paragraph", required=True, max_length=50_000),
    )
    return (
        _app("translation", TRANSLATION_KEY, "text", translation, translator),
        _app("translation_list", TRANSLATION_LIST_KEY, "texts", listed, translator.several),
        _app("category", CATEGORY_KEY, "transcript", category, categoriser),
    )


def _app(
    name: str,
    key: str,
    question: str,
    form: tuple[Variable, ...],
    answer: Callable[[Mapping[str, Any]], Answer],
) -> App:
    made = {kind: str(uuid5(NAMESPACE_URL, f"sandbox:{kind}:{name}")) for kind in ("app", "workflow")}
    return App(made["app"], name, key, made["workflow"], question, form, answer)


def info(app: App) -> dict[str, Any]:
    """`GET /info`."""
    return {
        "name": app.name,
        "description": "",
        "tags": [],
        "mode": "workflow",
        "author_name": "sandbox",
    }


def parameters(app: App) -> dict[str, Any]:
    """`GET /parameters`: the inputs an app declares, among much else."""
    off = {"enabled": False}
    form = [
        {
            variable.kind: {
                "label": variable.name,
                "variable": variable.name,
                "type": variable.kind,
                "required": variable.required,
                "options": [],
                "max_length": variable.max_length,
            }
        }
        for variable in app.form
    ]
    return {
        "opening_statement": "",
        "suggested_questions": [],
        "suggested_questions_after_answer": off,
        "speech_to_text": off,
        "text_to_speech": {**off, "language": "", "voice": ""},
        "retriever_resource": {"enabled": True},
        "annotation_reply": off,
        "more_like_this": off,
        "user_input_form": form,
        "sensitive_word_avoidance": off,
        "file_upload": {
            "enabled": True,
            "allowed_file_types": ["document", "image"],
            "allowed_file_extensions": [],
            "allowed_file_upload_methods": ["local_file", "remote_url"],
            "number_limits": 3,
        },
        "system_parameters": {
            "image_file_size_limit": 10,
            "video_file_size_limit": 100,
            "audio_file_size_limit": 50,
            "file_size_limit": MAX_UPLOAD_BYTES // 1024**2,
            "workflow_file_upload_limit": 10,
        },
    }


def site(app: App) -> dict[str, Any]:
    """`GET /site`."""
    return {
        "title": app.name,
        "chat_color_theme": None,
        "chat_color_theme_inverted": False,
        "icon_type": "emoji",
        "icon": "\U0001f916",
        "icon_background": "#FFEAD5",
        "description": None,
        "copyright": None,
        "privacy_policy": None,
        "custom_disclaimer": "",
        "default_language": "en-US",
        "show_workflow_steps": True,
        "use_icon_as_answer_icon": False,
        "icon_url": None,
    }


def meta(app: App) -> dict[str, Any]:
    """`GET /meta`: the icons of the tools an app uses; none."""
    return {"tool_icons": {}}

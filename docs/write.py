"""Writes the pages of this folder that come from declarations: `make docs`."""

from pathlib import Path

from cai_assets.domain.dictionary import pages

for name, text in pages().items():
    Path(__file__).with_name(name).write_text(text, encoding="utf-8")

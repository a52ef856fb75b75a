"""What the two Dify workflows must declare: their input and output names, in one place.

A workflow of one's own serves the platform when its Start node declares these inputs and its End node these
outputs. How Dify is called belongs to `resources/dify.py`.
"""

from typing import Final

# Translation: one text in, its translation out.
#   text             paragraph, required   the message, as it was written
#   source_language  text, required        BCP 47 primary subtag, `und` where it could not be told
#   target_language  text, required        DIFY_TARGET_LANGUAGE
TRANSLATION_TEXT: Final = "text"
TRANSLATION_SOURCE: Final = "source_language"
TRANSLATION_TARGET: Final = "target_language"

# Translation of several texts in one call, where the Start node declares this input instead of `text`: fewer
# calls, and a prompt that is paid for once.
#   texts            paragraph, required   JSON list of texts, all in the source language; its max_length and
#                                          DIFY_TEXTS_PER_CALL bound it
TRANSLATION_TEXTS: Final = "texts"

# Categorisation: a transcript in, one of the given names out.
#   transcript       paragraph, required   lines "user: ..." and "staff: ...", at most TRANSCRIPT_CHARACTERS
#   categories       paragraph, required   JSON list of the names allowed
CATEGORY_TRANSCRIPT: Final = "transcript"
CATEGORY_NAMES: Final = "categories"

# What either Start node may declare: all of a line, and require nothing else. The first that fits is used.
TRANSLATION_INPUTS: Final = (
    (TRANSLATION_TEXTS, TRANSLATION_SOURCE, TRANSLATION_TARGET),
    (TRANSLATION_TEXT, TRANSLATION_SOURCE, TRANSLATION_TARGET),
)
CATEGORY_INPUTS: Final = ((CATEGORY_TRANSCRIPT, CATEGORY_NAMES),)

# Outputs of the End nodes. `usage` is optional: the LLM node's `usage` object, the only place where blocking
# mode tells a price.
OUTPUT_TEXT: Final = "text"
# A list (or its JSON) of as many translations, in the order of the input `texts`.
OUTPUT_TEXTS: Final = "texts"
OUTPUT_CATEGORY: Final = "category"
OUTPUT_CONFIDENCE: Final = "confidence"
OUTPUT_USAGE: Final = "usage"

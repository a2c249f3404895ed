"""Cleaning of captions from web pages and users."""

from __future__ import annotations

import html
import re
import unicodedata

from components.errors import DataError

#: Maximum length of a cleaned caption: far more than the text encoders read.
MAX_CHARACTERS = 1000
#: Maximum length of the input that is processed.
_MAX_INPUT = 20 * MAX_CHARACTERS
_NESTED_ENTITY = re.compile(r"&(?:amp;)+", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
#: A tag begins with a letter after its bracket, unlike "<3" and "a < b".
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_URL = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>\"']+", re.IGNORECASE)
_KEPT = "\t\n\r\v\f\u200c\u200d"
_SPACE = re.compile(r"\s+")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "`": "`"}


def clean_caption(caption: str) -> str:
    """``caption`` in Unicode's composed form, on one line, without markup, entities, addresses or quotes around it.

    A caption longer than `MAX_CHARACTERS` is cut at the end of a word. The function is idempotent.

    Raises:
        DataError: nothing is left; the message is the reason of the reject.
    """
    text, before = caption[:_MAX_INPUT], None
    while text != before:  # removal can reveal more: an entity that encodes a tag, nested quotes
        text, before = _cleaned(text), text
    if not text:
        raise DataError("the caption is empty")
    return text


def _cleaned(text: str) -> str:
    text = html.unescape(_NESTED_ENTITY.sub("&", text))
    for pattern in (_COMMENT, _TAG, _URL):
        text = pattern.sub(" ", text)
    text = "".join(" " if character.isspace() else character for character in text if not _invisible(character))
    text = _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return _cut(text)


def _invisible(character: str) -> bool:
    """Control characters, lone surrogates, and marks of direction or width; joiners are kept for scripts and emoji."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in _KEPT


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    words, _, _ = text[: MAX_CHARACTERS + 1].rpartition(" ")
    return words or text[:MAX_CHARACTERS]

"""Target words: where the word that stands for the subject lies in a prompt, as text and as tokens.

A word matches whole words only ("cat" is not in "category"), whatever its case, in singular or plural, and may be a
phrase of several words.
"""

from __future__ import annotations

import difflib
import re

from torch import Tensor, zeros
from transformers import CLIPTokenizer

from components.errors import WordError

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def find_word(prompt: str, word: str) -> list[tuple[int, int]]:
    """Character spans (start, end) of every occurrence of ``word`` in ``prompt``, empty if there is none."""
    parts = [p.lower() for p in _WORD.findall(word)]
    if not parts:
        return []
    tokens = [(m.group().lower(), m.start(), m.end()) for m in _WORD.finditer(prompt)]
    spans = []
    for i in range(len(tokens) - len(parts) + 1):
        window = tokens[i : i + len(parts)]
        heads = all(t[0] == p for t, p in zip(window[:-1], parts[:-1], strict=True))
        if heads and _same_noun(window[-1][0], parts[-1]):
            spans.append((window[0][1], window[-1][2]))
    return spans


def require_word(prompt: str, word: str) -> list[tuple[int, int]]:
    """Like `find_word`.

    Raises:
        WordError: the prompt does not hold ``word``; the message lists near matches.
    """
    spans = find_word(prompt, word)
    if spans:
        return spans
    words = [w.lower() for w in _WORD.findall(prompt)]
    near = difflib.get_close_matches(word.lower(), dict.fromkeys(words), n=3, cutoff=0.6)
    hint = f"; did you mean {', '.join(repr(n) for n in near)}?" if near else ""
    raise WordError(f"target_word: the prompt does not contain it as a word{hint}")


def token_mask(tokenizer: CLIPTokenizer, prompt: str, word: str) -> Tensor:
    """Float [tokens]: 1 at every token of ``word`` in the padded ``prompt``, else 0.

    Raises:
        WordError: the word is not in the prompt, or only beyond the tokenizer's last token.
    """
    spans = require_word(prompt, word)
    encoding = tokenizer(
        prompt,
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_offsets_mapping=True,
    )
    mask = zeros(tokenizer.model_max_length)
    for index, (start, end) in enumerate(encoding["offset_mapping"]):
        if end > start and any(start < span_end and end > span_start for span_start, span_end in spans):
            mask[index] = 1.0
    if not mask.any():
        raise WordError(
            f"target_word: it stands beyond the {tokenizer.model_max_length} tokens the model reads; move it forward"
        )
    return mask


def _same_noun(a: str, b: str) -> bool:
    return a == b or a in _plurals(b) or b in _plurals(a)


def _plurals(noun: str) -> set[str]:
    forms = {noun + "s", noun + "es"}
    if len(noun) > 1 and noun.endswith("y") and noun[-2] not in "aeiou":
        forms.add(noun[:-1] + "ies")
    if noun.endswith("f"):
        forms.add(noun[:-1] + "ves")
    if noun.endswith("fe"):
        forms.add(noun[:-2] + "ves")
    return forms

"""The font of exported stories, from Noto Sans SC: ``python -m tools.story_font NotoSansSC-Regular.otf target.ttf``.

It keeps Latin, Greek, Cyrillic, kana, punctuation and the Chinese characters of GB 2312 and of Big5's first plane, and
turns cubic outlines into the quadratic ones that PDF writers embed. Both fonts are under the SIL Open Font License.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from fontTools import subset
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import newTable

#: Ranges of Unicode, both ends included.
_RANGES = (
    (0x20, 0x24F),
    (0x300, 0x52F),
    (0x1E00, 0x1EFF),
    (0x2000, 0x206F),
    (0x20A0, 0x20BF),
    (0x2100, 0x22FF),
    (0x2460, 0x24FF),
    (0x25A0, 0x26FF),
    (0x3000, 0x30FF),
    (0xFF00, 0xFFEF),
)
#: Lead and trail bytes of the Chinese characters of each encoding.
_ENCODINGS = {
    "gb2312": (range(0xA1, 0xF8), range(0xA1, 0xFF)),
    "big5": (range(0xA4, 0xC7), (*range(0x40, 0x7F), *range(0xA1, 0xFF))),
}
#: Greatest distance of the new outlines from the old, in thousandths of the font's size.
_TOLERANCE = 1.2


def main(source: str, target: str) -> None:
    """Write the font."""
    options = subset.Options()
    options.layout_features, options.hinting, options.desubroutinize, options.notdef_outline = [], False, True, True
    options.drop_tables += ["BASE", "GDEF", "GPOS", "GSUB", "VORG", "vhea", "vmtx"]
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=set(characters()))
    subsetter.subset(font)
    _make_quadratic(font)
    font.recalcBBoxes, font.recalcTimestamp = True, False
    font.save(target)


def characters() -> Iterator[int]:
    """The characters that stories are set in."""
    for first, last in _RANGES:
        yield from range(first, last + 1)
    for encoding, (leads, trails) in _ENCODINGS.items():
        for lead in leads:
            for trail in trails:
                text = bytes((lead, trail)).decode(encoding, "ignore")
                yield from map(ord, text)


def _make_quadratic(font: Any) -> None:
    """Turn an OpenType font with cubic outlines into a TrueType one."""
    glyphs, order = font.getGlyphSet(), font.getGlyphOrder()
    made = {}
    for name in order:
        pen = TTGlyphPen(glyphs)
        glyphs[name].draw(Cu2QuPen(pen, _TOLERANCE, reverse_direction=True))
        made[name] = pen.glyph()
    font["loca"], font["glyf"] = newTable("loca"), newTable("glyf")
    font["glyf"].glyphOrder, font["glyf"].glyphs = order, made
    del font["CFF "]
    font.sfntVersion, font["post"].formatType = "\000\001\000\000", 3.0
    limits = font["maxp"]
    limits.tableVersion, limits.maxZones = 0x00010000, 1
    for name in (
        *("maxTwilightPoints", "maxStorage", "maxFunctionDefs", "maxInstructionDefs", "maxStackElements"),
        *("maxSizeOfInstructions", "maxComponentElements", "maxComponentDepth", "maxPoints", "maxContours"),
        *("maxCompositePoints", "maxCompositeContours"),
    ):
        setattr(limits, name, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])

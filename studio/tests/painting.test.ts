import { describe, expect, it } from 'vitest';
import {
  brushWidths,
  changed,
  coloured,
  continued,
  fillBox,
  isEmpty,
  isFull,
  newMask,
  nextWidth,
  paintedShare,
  startPainting,
  stroke,
  undone,
  type Mask,
} from '../src/lib/painting';

const size = { width: 8, height: 6 };
const paintedCount = (mask: Mask): number => paintedShare(mask) * mask.width * mask.height;
const rows = ({ width, height, pixels }: Mask): string[] =>
  Array.from({ length: height }, (_, y) => [...pixels.slice(y * width, (y + 1) * width)].map((each) => (each ? '#' : '.')).join(''));

describe('a stroke', () => {
  it('is round, in pixels of the picture', () => {
    expect(rows(stroke(newMask(size), [3, 3], [3, 3], 4, false))).toEqual([
      '........',
      '..##....',
      '.####...',
      '.####...',
      '..##....',
      '........',
    ]);
  });

  it('leaves no gap between two points that are far apart', () => {
    expect(rows(stroke(newMask(size), [0.5, 1.5], [7.5, 1.5], 1, false))[1]).toBe('########');
    const steep = rows(stroke(newMask(size), [0.2, 0.1], [7.4, 5.9], 1, false));
    expect(steep.every((row) => row.includes('#'))).toBe(true);
    expect(steep[0]?.[0]).toBe('#');
    expect(steep[5]?.[7]).toBe('#');
  });

  it('of one pixel paints the pixel that it is on, wherever on it', () => {
    for (const [x, y] of [[2, 3], [2.01, 3.99], [2.5, 3.5]] as const) {
      const mask = stroke(newMask(size), [x, y], [x, y], 1, false);
      expect(mask.pixels[3 * 8 + 2]).toBe(1);
      expect(paintedCount(mask)).toBe(1);
    }
  });

  it('ends at the edges of the picture', () => {
    expect(paintedCount(stroke(newMask(size), [-50, -50], [100, 90], 400, false))).toBe(48);
    const outside = newMask(size);
    expect(stroke(outside, [-20, -20], [-10, -10], 4, false)).toBe(outside);
  });

  it('erases, and leaves the mask before it as it was', () => {
    const full = newMask(size, true);
    const erased = stroke(full, [0, 0.5], [8, 0.5], 1, true);
    expect(rows(erased).map((row) => row.includes('#'))).toEqual([false, true, true, true, true, true]);
    expect(paintedCount(full)).toBe(48);
  });
});

it('a mask is empty, full, or neither', () => {
  const masks = [newMask(size), fillBox(newMask(size), [0, 0, 1, 1], false), newMask(size, true)];
  expect(masks.map(paintedShare)).toEqual([0, 1 / 48, 1]);
  expect(masks.map(isEmpty)).toEqual([true, false, false]);
  expect(masks.map(isFull)).toEqual([false, false, true]);
});

it('a rectangle is painted and erased to the pixel', () => {
  const mask = fillBox(newMask(size), [1, 2, 5, 4], false);
  expect(rows(mask)).toEqual(['........', '........', '.####...', '.####...', '........', '........']);
  expect(rows(fillBox(mask, [0, 3, 3, 6], true))[3]).toBe('...##...');
});

describe('undo', () => {
  const begin = startPainting(newMask(size));

  it('takes a whole stroke back, and then what was before it', () => {
    const box = changed(begin, fillBox(begin.mask, [0, 0, 4, 4], false));
    const first = continued(box, stroke(box.mask, [6, 1], [6, 1], 1, false), true);
    const whole = continued(first, stroke(first.mask, [6, 1], [6, 5], 1, false), false);
    expect(paintedCount(whole.mask)).toBeGreaterThan(paintedCount(first.mask));
    expect(undone(whole).mask).toBe(box.mask);
    expect(undone(undone(whole)).mask).toBe(begin.mask);
    expect(undone(undone(undone(whole)))).toEqual(begin);
  });

  it('passes over what changed nothing', () => {
    const box = changed(begin, fillBox(begin.mask, [0, 0, 4, 4], false));
    const beside = continued(box, stroke(box.mask, [6, 5], [6, 5], 2, true), true);
    expect(undone(beside).mask).toBe(begin.mask);
    expect(changed(box, fillBox(box.mask, [0, 0, 2, 2], false))).toEqual(box);
  });

  it('goes thirty changes back', () => {
    let painting = begin;
    for (let at = 0; at < 40; at++) painting = changed(painting, stroke(painting.mask, [at % 8, at / 8], [at % 8, at / 8], 1, false));
    expect(painting.past).toHaveLength(30);
  });
});

it('colours are those of the two parts, pixel by pixel', () => {
  const mask = fillBox(newMask({ width: 2, height: 1 }), [1, 0, 2, 1], false);
  expect([...coloured(mask, [1, 2, 3, 0], [255, 255, 255, 255])]).toEqual([255, 255, 255, 255, 1, 2, 3, 0]);
});

describe('the brush', () => {
  it('has widths that fit the picture', () => {
    expect(brushWidths({ width: 64, height: 48 })).toEqual({ least: 1, usual: 5, most: 21 });
    expect(brushWidths({ width: 1024, height: 1024 })).toEqual({ least: 1, usual: 85, most: 341 });
  });

  it('grows and shrinks step by step, and comes to both ends', () => {
    const widths = brushWidths({ width: 1024, height: 1024 });
    let width = widths.usual;
    for (let step = 0; step < 40; step++) width = nextWidth(width, true, widths);
    expect(width).toBe(widths.most);
    for (let step = 0; step < 60; step++) width = nextWidth(width, false, widths);
    expect(width).toBe(1);
    expect(nextWidth(1, true, widths)).toBe(2);
  });
});

/** Masks that are painted by hand: a value a pixel, strokes of a round brush, rectangles, and undo. */
import type { Box, Size } from './region';

export interface Mask extends Size {
  /** Row by row, 1 where it is painted and 0 elsewhere. */
  readonly pixels: Uint8Array;
}

export type Point = readonly [number, number];
/** Red, green, blue and opacity, each from 0 to 255. */
export type Rgba = readonly [number, number, number, number];

/** A mask that is painted nowhere, or everywhere. */
export function newMask({ width, height }: Size, painted = false): Mask {
  return { width, height, pixels: new Uint8Array(width * height).fill(painted ? 1 : 0) };
}

/**
 * The mask after a stroke of a round brush between two points, in pixels from the upper left corner.
 *
 * A pixel belongs to the stroke where its centre is at most half of `width` from the line, and where an end lies on it.
 * The same mask where nothing changes.
 */
export function stroke(mask: Mask, from: Point, to: Point, width: number, erase: boolean): Mask {
  const reach = width / 2;
  const [left, right] = [Math.min(from[0], to[0]) - reach, Math.max(from[0], to[0]) + reach];
  const [top, bottom] = [Math.min(from[1], to[1]) - reach, Math.max(from[1], to[1]) + reach];
  const along = [to[0] - from[0], to[1] - from[1]] as const;
  const length = along[0] ** 2 + along[1] ** 2;
  const holds = (x: number, y: number, [endX, endY]: Point): boolean => x === Math.floor(endX) && y === Math.floor(endY);
  return painted(mask, [left, top, right, bottom], erase ? 0 : 1, (x, y) => {
    const [across, down] = [x + 0.5 - from[0], y + 0.5 - from[1]];
    const share = length === 0 ? 0 : Math.min(1, Math.max(0, (across * along[0] + down * along[1]) / length));
    const distance = (across - share * along[0]) ** 2 + (down - share * along[1]) ** 2;
    return distance <= reach ** 2 || holds(x, y, from) || holds(x, y, to);
  });
}

/** The mask with a rectangle painted, or erased. */
export const fillBox = (mask: Mask, box: Box, erase: boolean): Mask => painted(mask, box, erase ? 0 : 1, () => true);

function painted(mask: Mask, [left, top, right, bottom]: Box, value: 0 | 1, belongs: (x: number, y: number) => boolean): Mask {
  const pixels = mask.pixels.slice();
  let changed = false;
  for (let y = Math.max(0, Math.floor(top)); y < Math.min(mask.height, Math.ceil(bottom)); y++) {
    for (let x = Math.max(0, Math.floor(left)); x < Math.min(mask.width, Math.ceil(right)); x++) {
      const at = y * mask.width + x;
      if (pixels[at] === value || !belongs(x, y)) continue;
      pixels[at] = value;
      changed = true;
    }
  }
  return changed ? { ...mask, pixels } : mask;
}

export const isEmpty = ({ pixels }: Mask): boolean => !pixels.includes(1);

/** The share that is painted, from 0 to 1. */
export const paintedShare = ({ pixels }: Mask): number => pixels.reduce((sum, each) => sum + each, 0) / pixels.length;

export const isFull = ({ pixels }: Mask): boolean => !pixels.includes(0);

/** The mask as an RGBA picture of two colours, row by row. */
export function coloured({ pixels }: Mask, inside: Rgba, outside: Rgba): Uint8ClampedArray<ArrayBuffer> {
  const [painted = 0, rest = 0] = new Uint32Array(Uint8ClampedArray.of(...inside, ...outside).buffer);
  return new Uint8ClampedArray(Uint32Array.from(pixels, (each) => (each ? painted : rest)).buffer);
}

/** A mask and what it was before each change that can be undone, the last one at the end. */
export interface Painting {
  readonly mask: Mask;
  readonly past: readonly Mask[];
}

const MOST_UNDONE = 30;

export const startPainting = (mask: Mask): Painting => ({ mask, past: [] });

/** A change of its own: it is undone by itself. */
export function changed({ mask, past }: Painting, next: Mask): Painting {
  return next === mask ? { mask, past } : { mask: next, past: [...past, mask].slice(-MOST_UNDONE) };
}

/** The next piece of a stroke, all of which is undone at once; `begins` with its first piece. */
export function continued(painting: Painting, next: Mask, begins: boolean): Painting {
  if (!begins) return { ...painting, mask: next };
  return { mask: next, past: [...painting.past, painting.mask].slice(-MOST_UNDONE) };
}

/** The painting before the last change; those that changed nothing are passed over. */
export function undone({ mask, past }: Painting): Painting {
  const last = past.findLastIndex((each) => each !== mask);
  return { mask: past[last] ?? mask, past: past.slice(0, Math.max(0, last)) };
}

/** Widths of the brush in pixels of a mask: the least, the usual and the largest one. */
export function brushWidths({ width, height }: Size): { least: number; usual: number; most: number } {
  const side = Math.max(width, height);
  return { least: 1, usual: Math.max(1, Math.round(side / 12)), most: Math.max(2, Math.round(side / 3)) };
}

/** The next smaller or larger width, a fifth away and at least a pixel. */
export function nextWidth(width: number, larger: boolean, { least, most }: { least: number; most: number }): number {
  const step = Math.max(1, Math.round(width / 5));
  return Math.min(most, Math.max(least, larger ? width + step : width - step));
}

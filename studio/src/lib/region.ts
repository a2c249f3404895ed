/** A subject's box in a picture: left, top, right and bottom in pixels. */
export type Box = readonly [number, number, number, number];

/** Smallest side of a box, in pixels. */
const LEAST = 4;

export interface Size {
  width: number;
  height: number;
}

const within = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);

/** The box between two corners, in whole pixels of the picture; null where it is too small to mean one. */
export function boxBetween(one: readonly [number, number], other: readonly [number, number], size: Size): Box | null {
  const [left, right] = [one[0], other[0]].map((x) => within(Math.round(x), 0, size.width)).sort((a, b) => a - b);
  const [top, bottom] = [one[1], other[1]].map((y) => within(Math.round(y), 0, size.height)).sort((a, b) => a - b);
  if (left === undefined || right === undefined || top === undefined || bottom === undefined) return null;
  return right - left >= LEAST && bottom - top >= LEAST ? [left, top, right, bottom] : null;
}

/** The box moved by so many pixels, as far as the picture goes. */
export function moveBox([left, top, right, bottom]: Box, across: number, down: number, size: Size): Box {
  const x = within(across, -left, size.width - right);
  const y = within(down, -top, size.height - bottom);
  return [left + x, top + y, right + x, bottom + y];
}

/** The box with its lower right corner moved, no smaller than it may be and no larger than the picture. */
export function resizeBox([left, top, right, bottom]: Box, across: number, down: number, size: Size): Box {
  return [
    left,
    top,
    within(right + across, left + LEAST, size.width),
    within(bottom + down, top + LEAST, size.height),
  ];
}

/** The box with one of its sides or its place stated, as far as the picture goes. */
export function stateBox(box: Box, change: { left?: number; top?: number; width?: number; height?: number }, size: Size): Box {
  const [left, top] = box;
  const moved = moveBox(box, (change.left ?? left) - left, (change.top ?? top) - top, size);
  const [width, height] = [moved[2] - moved[0], moved[3] - moved[1]];
  return resizeBox(moved, (change.width ?? width) - width, (change.height ?? height) - height, size);
}

/** The box in the middle of a picture, half as wide and high. */
export function middleBox({ width, height }: Size): Box {
  const [left, top] = [Math.floor(width / 4), Math.floor(height / 4)];
  return [left, top, width - left, height - top];
}

/** The box of all pixels that are not 0; null where there is none. `pixels` are row by row. */
export function boxAround(pixels: Uint8Array, size: Size): Box | null {
  let [left, top, right, bottom] = [size.width, size.height, 0, 0];
  for (let y = 0; y < size.height; y++) {
    for (let x = 0; x < size.width; x++) {
      if (!pixels[y * size.width + x]) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = y + 1;
    }
  }
  return right > left ? [left, top, right, bottom] : null;
}

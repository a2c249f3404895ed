import { describe, expect, it } from 'vitest';
import { boxAround, boxBetween, middleBox, moveBox, resizeBox, stateBox } from '../src/lib/region';

const size = { width: 100, height: 80 };

describe('a box', () => {
  it('is dragged in any direction and ends at the edges', () => {
    expect(boxBetween([50.4, 60], [10, 20.6], size)).toEqual([10, 21, 50, 60]);
    expect(boxBetween([-30, -5], [140, 200], size)).toEqual([0, 0, 100, 80]);
  });

  it('that is a mere click is none', () => {
    expect(boxBetween([10, 10], [12, 40], size)).toBeNull();
    expect(boxBetween([120, 10], [160, 40], size)).toBeNull();
  });

  it('moves as far as the picture goes and keeps its size', () => {
    expect(moveBox([10, 10, 30, 30], 5, -4, size)).toEqual([15, 6, 35, 26]);
    expect(moveBox([10, 10, 30, 30], 500, -400, size)).toEqual([80, 0, 100, 20]);
  });

  it('is resized within the picture', () => {
    expect(resizeBox([10, 10, 30, 30], 8, -2, size)).toEqual([10, 10, 38, 28]);
    expect(resizeBox([10, 10, 30, 30], -99, 999, size)).toEqual([10, 10, 14, 80]);
  });

  it('is stated in numbers, within the picture', () => {
    expect(stateBox([10, 10, 30, 30], { left: 40 }, size)).toEqual([40, 10, 60, 30]);
    expect(stateBox([10, 10, 30, 30], { top: 900 }, size)).toEqual([10, 60, 30, 80]);
    expect(stateBox([10, 10, 30, 30], { width: 50, height: 1 }, size)).toEqual([10, 10, 60, 14]);
    expect(stateBox(middleBox(size), { left: 0, top: 0, width: 999, height: 999 }, size)).toEqual([0, 0, 100, 80]);
  });

  it('begins in the middle', () => {
    expect(middleBox(size)).toEqual([25, 20, 75, 60]);
    expect(middleBox({ width: 65, height: 9 })).toEqual([16, 2, 49, 7]);
  });

  it('holds all that is painted', () => {
    const pixels = new Uint8Array(100 * 80);
    expect(boxAround(pixels, size)).toBeNull();
    pixels[12 * 100 + 40] = 1;
    pixels[30 * 100 + 7] = 1;
    expect(boxAround(pixels, size)).toEqual([7, 12, 41, 31]);
  });
});

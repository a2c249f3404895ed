import { describe, expect, it } from 'vitest';
import { boxBetween, boxOfAlpha, moveBox, resizeBox } from '../src/lib/region';

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

  it('holds all that is opaque', () => {
    const alpha = new Uint8ClampedArray(100 * 80);
    expect(boxOfAlpha(alpha, size)).toBeNull();
    alpha[12 * 100 + 40] = 255;
    alpha[30 * 100 + 7] = 200;
    alpha[79 * 100 + 99] = 100;
    expect(boxOfAlpha(alpha, size)).toEqual([7, 12, 41, 31]);
  });
});

import { describe, expect, it } from 'vitest';
import { leftOf, limitsOf, nearness, NO_LIMITS, percentOf, picturesLeft } from '../src/lib/limits';

const NOW = 1_000_000;

function answer(kind: string, limit: number | string, left: number, seconds: number): Headers {
  return new Headers({
    [`x-ratelimit-limit-${kind}`]: String(limit),
    [`x-ratelimit-remaining-${kind}`]: String(left),
    [`x-ratelimit-reset-${kind}`]: String(seconds),
  });
}

describe('the limits of a key', () => {
  it('are those of the latest answer that tells them', () => {
    const first = limitsOf(answer('pixel-steps', 1000, 400, 60), NO_LIMITS, NOW);
    expect(first).toEqual({ requests: null, drawing: { limit: 1000, left: 400, resets: NOW + 60_000 } });
    const second = limitsOf(answer('requests', 60, 59, 1), first, NOW + 5);
    expect(second).toEqual({ drawing: first.drawing, requests: { limit: 60, left: 59, resets: NOW + 1005 } });
    expect(limitsOf(new Headers(), second, NOW)).toBe(second);
  });

  it('are not made of headers that make no sense', () => {
    expect(limitsOf(answer('requests', 'many', 1, 1), NO_LIMITS, NOW)).toBe(NO_LIMITS);
    expect(limitsOf(new Headers({ 'x-ratelimit-limit-requests': '60' }), NO_LIMITS, NOW)).toBe(NO_LIMITS);
  });

  it('are there again when their time has come', () => {
    const limit = { limit: 1000, left: 0, resets: NOW };
    expect(leftOf(limit, NOW - 1)).toBe(0);
    expect(leftOf(limit, NOW)).toBe(1000);
    expect(nearness(limit, NOW)).toBe(null);
  });

  it('are told when little is left, and when nothing is', () => {
    const left = (left: number) => nearness({ limit: 1000, left, resets: NOW + 1 }, NOW);
    expect([left(500), left(101), left(100), left(1), left(0)]).toEqual([null, null, 'low', 'low', 'out']);
    expect(nearness(null, NOW)).toBe(null);
  });
});

describe('shares', () => {
  it('never say nothing of something, nor all of a part', () => {
    expect([percentOf(0, 9), percentOf(1, 9999), percentOf(1, 3), percentOf(9998, 9999), percentOf(9, 9)]).toEqual([0, 1, 33, 99, 100]);
    expect(percentOf(3, 0)).toBe(0);
  });

  it('of a day are counted in pictures like those drawn', () => {
    expect(picturesLeft(1000, { images: 4, pixel_steps: 800 })).toBe(5);
    expect(picturesLeft(199, { images: 4, pixel_steps: 800 })).toBe(0);
    expect(picturesLeft(1000, { images: 0, pixel_steps: 0 })).toBe(null);
  });
});

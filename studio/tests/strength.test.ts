import { describe, expect, it } from 'vitest';
import { acts, broughtBack, leftOut, strengthWord } from '../src/lib/strength';

const own = { id: 'a', strength: 1.6, face_strength: 0, body_strength: 1.3 };

describe('a character of a picture', () => {
  it('acts by its face, its body, or both', () => {
    expect(acts(own)).toBe(true);
    expect(acts({ ...own, body_strength: 0 })).toBe(false);
    expect(acts({ ...own, strength: 0 })).toBe(false);
  });

  it('comes back as it was left out', () => {
    const out = leftOut(own);
    expect(acts(out)).toBe(false);
    expect(strengthWord(out.strength)).toBe('absent');
    expect(broughtBack(out, own)).toEqual(own);
  });

  it('comes back balanced where nothing is known of before', () => {
    expect(broughtBack(leftOut(own), null)).toEqual({ ...own, strength: 1 });
    const nothing = { id: 'a', strength: 1.4, face_strength: 0, body_strength: 0 };
    expect(broughtBack(nothing, nothing)).toEqual({ id: 'a', strength: 1.4, face_strength: 1, body_strength: 1 });
  });
});

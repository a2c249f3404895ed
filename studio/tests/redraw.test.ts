import { describe, expect, it } from 'vitest';
import { blobToBase64 } from '../src/lib/base64';
import type { Take } from '../src/api/stories';
import { coloured, fillBox, newMask } from '../src/lib/painting';
import { KEPT, redrawBody, REDRAWN, redrawFaults } from '../src/lib/redraw';

const settings = {
  revised_prompt: 'robot at sea, watercolour',
  characters: [
    { id: 'a', name: 'Bolt', target_word: 'robot' },
    { id: 'b', name: 'Ada Lovelace', target_word: 'woman' },
  ],
} as Take['settings'];
const form = { prompt: settings.revised_prompt, strength: 0.8, seed: '' };
const size = { width: 4, height: 2 };
const some = fillBox(newMask(size), [1, 0, 3, 1], false);

describe('what is sent', () => {
  it('leaves out what the take has itself', () => {
    expect(redrawBody(form, settings, 'cG5n', 1)).toEqual({ mask: 'cG5n', strength: 0.8, prompt: null, n: 1, seed: null });
    expect(redrawBody({ ...form, prompt: ` ${form.prompt}\n`, seed: 0 }, settings, null, 4)).toEqual({
      ...{ mask: null, strength: 0.8, prompt: null, n: 4, seed: 0 },
    });
  });

  it('has words in place of mentions, and other names as they are', () => {
    const { prompt } = redrawBody({ ...form, prompt: '@bolt and @"Ada Lovelace" meet @Miso' }, settings, null, 1);
    expect(prompt).toBe('robot and woman meet @Miso');
    expect(redrawBody({ ...form, prompt: '@Bolt at sea, watercolour' }, settings, null, 1).prompt).toBeNull();
  });

  it('is transparent where the picture is to be redrawn, and opaque elsewhere', () => {
    const alpha = coloured(some, REDRAWN, KEPT).filter((_, at) => at % 4 === 3);
    expect([...alpha]).toEqual([255, 0, 0, 255, 255, 255, 255, 255]);
  });

  it('is base64 of all bytes, however many', async () => {
    const bytes = Uint8Array.from({ length: 100_000 }, (_, at) => (at * 7) % 256);
    expect(await blobToBase64(new Blob([bytes]))).toBe(Buffer.from(bytes).toString('base64'));
  });
});

it('faults are told by field', () => {
  expect(redrawFaults(form, some)).toEqual([]);
  expect(redrawFaults({ ...form, prompt: ' ', seed: 1.5 }, newMask(size))).toEqual(['mask', 'prompt', 'seed']);
  for (const [seed, good] of [[4294967295, true], ['12', true], [4294967296, false], [-1, false], ['x', false]] as const) {
    expect(redrawFaults({ ...form, seed }, some).length === 0, String(seed)).toBe(good);
  }
});

import { describe, expect, it } from 'vitest';
import type { Generation } from '../src/api/stories';
import { recallOf } from '../src/lib/recall';
import { samplerLabel } from '../src/lib/samplers';

const bolt = { id: 'c1', name: 'Bolt', target_word: 'robot', strength: 1.5, face_strength: 0.5, body_strength: 1 };
const settings = {
  prompt: '@Bolt at sea, watercolour',
  revised_prompt: 'robot at sea, watercolour',
  negative_prompt: 'rain',
  characters: [bolt],
  size: 'auto',
  steps: 20,
  guidance_scale: 4.5,
  scheduler: 'euler_a',
  loras: [{ name: 'ink', weight: 0.8 }],
};
const picture = { settings, seed: 7, width: 64, height: 96, story: 's1', panel: 'p1' } as unknown as Generation;

describe('a picture drawn before', () => {
  it('is drawn again with its characters, whose words stand for them', () => {
    expect(recallOf(picture)).toEqual({
      prompt: 'robot at sea, watercolour',
      negative_prompt: 'rain',
      seed: 7,
      size: '64x96',
      sampler: 'euler_a',
      steps: 20,
      guidance_scale: 4.5,
      loras: [{ name: 'ink', weight: 0.8 }],
      characters: [{ id: 'c1', target_word: 'robot', strength: 1.5, face_strength: 0.5, body_strength: 1 }],
    });
  });

  it('of a panel without characters is drawn without any', () => {
    expect(recallOf({ ...picture, settings: { ...settings, characters: [] } }).characters).toEqual([]);
  });

  it('that was made of another one waits for that', () => {
    const edit = { ...picture, story: null, settings: { ...settings, prompt: 'at sea', characters: [], scheduler: null } };
    expect(recallOf(edit)).toMatchObject({ prompt: 'at sea', characters: null, sampler: null });
  });
});

it('samplers of another service keep their names', () => {
  expect([samplerLabel('euler_a'), samplerLabel('toString')]).toEqual(['Euler Ancestral', 'toString']);
});

/** The settings of a picture that was drawn, as One picture takes them. */
import type { Generation } from '../api/stories';
import type { Lora } from './loras';
import { asSampler, type Sampler } from './samplers';
import type { Strengths } from './strength';

export interface RecalledCharacter extends Strengths {
  id: string;
  target_word: string;
}

export interface Recall {
  prompt: string;
  negative_prompt: string;
  seed: number;
  size: string;
  sampler: Sampler | null;
  steps: number | null;
  guidance_scale: number | null;
  loras: Lora[];
  /** Null where it was drawn from a picture, which is not kept. */
  characters: RecalledCharacter[] | null;
}

/**
 * What draws a picture again.
 *
 * A panel's picture was drawn with characters of the cast, or with none; its prompt has their words in place of
 * mentions. Any other picture that names no character was drawn from one that was dropped.
 */
export function recallOf({ settings, seed, width, height, story }: Generation): Recall {
  const { prompt, revised_prompt, negative_prompt, scheduler, steps, guidance_scale, loras = [] } = settings;
  const fromCast = story !== null || settings.characters.length > 0;
  const characters = settings.characters.map(({ id, target_word, strength, face_strength, body_strength }) => ({
    id,
    target_word,
    strength,
    face_strength,
    body_strength,
  }));
  return {
    prompt: (fromCast && revised_prompt) || prompt,
    negative_prompt,
    seed,
    size: `${width}x${height}`,
    sampler: asSampler(scheduler),
    steps,
    guidance_scale,
    loras,
    characters: fromCast ? characters : null,
  };
}

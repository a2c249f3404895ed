/** What is asked of the service to redraw a part of a take. */
import type { Redraw, Take } from '../api/stories';
import { folded, pieces } from './mentions';
import { isEmpty, type Mask, type Rgba } from './painting';

/** The service redraws where a mask is transparent. */
export const REDRAWN: Rgba = [0, 0, 0, 0];
export const KEPT: Rgba = [255, 255, 255, 255];

export const STRENGTH = { least: 0.1, usual: 0.8, most: 1 } as const;
export const MAX_PROMPT = 4000;
const MAX_SEED = 4294967295;

export interface RedrawForm {
  prompt: string;
  strength: number;
  /** Empty for a new one. */
  seed: string | number;
}

/** The fields that cannot be sent as they are. */
export function redrawFaults({ prompt, seed }: RedrawForm, mask: Mask): ('mask' | 'prompt' | 'seed')[] {
  const number = Number(seed);
  const seedGood = seed === '' || (Number.isInteger(number) && number >= 0 && number <= MAX_SEED);
  return [
    ...(isEmpty(mask) ? (['mask'] as const) : []),
    ...(prompt.trim() ? [] : (['prompt'] as const)),
    ...(seedGood ? [] : (['seed'] as const)),
  ];
}

/** The request; `mask` is a PNG in base64, or null for the whole take. A prompt that is the take's own is not repeated. */
export function redrawBody(form: RedrawForm, { revised_prompt, characters }: Take['settings'], mask: string | null, n: number): Redraw {
  const prompt = withWords(form.prompt.trim(), characters);
  return {
    mask,
    strength: form.strength,
    prompt: prompt === revised_prompt ? null : prompt,
    n,
    seed: form.seed === '' ? null : Number(form.seed),
  };
}

/** The prompt with the words of a take's characters in place of their mentions. */
function withWords(prompt: string, characters: Take['settings']['characters']): string {
  const names = characters.map((each) => each.name);
  const wordOf = (name: string): string | undefined =>
    characters.find((each) => folded(each.name) === folded(name))?.target_word;
  return pieces(prompt, names)
    .map(({ text, mention }) => (mention && wordOf(mention.name)) ?? text)
    .join('');
}

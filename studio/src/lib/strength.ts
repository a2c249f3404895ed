/** The words for a strength between 0 and 2, and which strengths leave a character out. */
export const STRENGTH_WORDS = ['absent', 'hint', 'balanced', 'strong'] as const;
export type StrengthWord = (typeof STRENGTH_WORDS)[number];

export function strengthWord(strength: number): StrengthWord {
  if (strength === 0) return 'absent';
  if (strength < 0.75) return 'hint';
  return strength <= 1.25 ? 'balanced' : 'strong';
}

/** How strongly a character acts on a picture: as a whole, its face, and the rest of it; each from 0 to 2. */
export interface Strengths {
  strength: number;
  face_strength: number;
  body_strength: number;
}

/** Whether a character acts on the picture at all; its word stays in the prompt where it does not. */
export const acts = ({ strength, face_strength, body_strength }: Strengths): boolean =>
  strength > 0 && (face_strength > 0 || body_strength > 0);

/** The same character left out of the picture. */
export const leftOut = <T extends Strengths>(character: T): T => ({ ...character, strength: 0 });

/**
 * The same character in the picture again, as it acted `before`, where that is known.
 *
 * What is above 0 by now stays as it is.
 */
export function broughtBack<T extends Strengths>(character: T, before: Strengths | null): T {
  const usual = before && acts(before) ? before : { strength: 1, face_strength: 1, body_strength: 1 };
  const parts = character.face_strength > 0 || character.body_strength > 0 ? character : usual;
  return {
    ...character,
    strength: character.strength || usual.strength,
    face_strength: parts.face_strength,
    body_strength: parts.body_strength,
  };
}

/** The words for a strength between 0 and 2. */
export const STRENGTH_WORDS = ['absent', 'hint', 'balanced', 'strong'] as const;
export type StrengthWord = (typeof STRENGTH_WORDS)[number];

export function strengthWord(strength: number): StrengthWord {
  if (strength === 0) return 'absent';
  if (strength < 0.75) return 'hint';
  return strength <= 1.25 ? 'balanced' : 'strong';
}

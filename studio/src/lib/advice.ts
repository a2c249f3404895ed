/** The service's advice on pictures, which is in English, as something that can be said in any language. */

const PATTERNS = {
  notFound: /^No subject stands out from the background: /,
  small: /^The subject is (?<pixels>\d+) pixels large: at least (?<least>\d+) would show its details\.$/,
  blurred: /^The subject is blurred: /,
  far: /^The subject fills (?<share>\d+%) of the picture: /,
  busy: /^The background is busy: /,
} as const;

export type AdviceKind = keyof typeof PATTERNS;

export interface Advice {
  kind: AdviceKind;
  values: Record<string, string>;
}

/** What a sentence advises; null for one that this studio does not know. */
export function adviceOf(sentence: string): Advice | null {
  for (const [kind, pattern] of Object.entries(PATTERNS)) {
    const match = pattern.exec(sentence);
    if (match) return { kind: kind as AdviceKind, values: { ...match.groups } };
  }
  return null;
}

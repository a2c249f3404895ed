/** Compares names with the text of a prompt, as the service does: in any case, Unicode composition, apostrophes and spaces. */

/** Characters whose composition and case are compared together; spaces and quotation marks are none. */
const COMPOSED = /\s+|["'`´ʼ“”„‟‘’‚‛«»‹›＂＇「」『』]|[@＠]|[^][\p{M}\u1160-\u11ff]*/gu;
const QUOTE = /^["'`´ʼ“”„‟‘’‚‛«»‹›＂＇「」『』]/u;

/** Scripts without spaces between words, and Korean, whose particles are written to the noun. */
const UNSPACED =
  /[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19ff\u3005-\u3007\u3040-\u31ff\u3400-\u9fff\ua960-\ua97f\ua9e0-\ua9ff\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\u{1b000}-\u{1b16f}\u{20000}-\u{3ffff}]/u;

/** Whether a character belongs to a script in which a word may end within a run of letters. */
export const isUnspaced = (character: string): boolean => UNSPACED.test(character);

/** A text in the form in which names are compared. */
export function folded(text: string): string {
  return [...text.trim().matchAll(COMPOSED)].map(([piece]) => foldedPiece(piece)).join('');
}

function foldedPiece(piece: string): string {
  if (/^\s/u.test(piece)) return ' ';
  if (QUOTE.test(piece)) return "'";
  if (piece === '＠') return '@';
  return piece.normalize('NFC').toUpperCase().toLowerCase().normalize('NFC');
}

/** A folded text with the positions of its characters in the original. */
export class FoldedText {
  private readonly text: string;
  private readonly foldedAt = new Map<number, number>();
  private readonly originalAt = new Map<number, number>();

  constructor(original: string) {
    let text = '';
    for (const match of original.matchAll(COMPOSED)) {
      this.foldedAt.set(match.index, text.length);
      this.originalAt.set(text.length, match.index);
      text += foldedPiece(match[0]);
    }
    this.originalAt.set(text.length, original.length);
    this.text = text;
  }

  /** The ends of the names that the text has at `start`, the longest first. */
  namesAt(start: number, names: KnownNames): number[] {
    const begin = this.foldedAt.get(start);
    if (begin === undefined) return [];
    return names.lengths.flatMap((length) => {
      const end = this.originalAt.get(begin + length);
      return end !== undefined && names.has(this.text.slice(begin, begin + length)) ? [end] : [];
    });
  }
}

/** The names of the cast. */
export class KnownNames {
  private readonly keys: ReadonlySet<string>;
  /** Descending. */
  readonly lengths: readonly number[];

  constructor(names: readonly string[]) {
    this.keys = new Set(names.map(nameKey));
    this.lengths = [...new Set([...this.keys].map((key) => key.length))].sort((one, other) => other - one);
  }

  has(key: string): boolean {
    return this.keys.has(key);
  }
}

/** The form in which names are compared. */
export function nameKey(name: string): string {
  return folded(mentionable(name));
}

/** A name as a mention can hold it: without double quotation marks, and `@` within words only. */
export function mentionable(name: string): string {
  const kept = name.replace(/(?<![\p{L}\p{N}_])[@＠]|[@＠](?![\p{L}\p{N}_])/gu, '').replaceAll('"', "'");
  return [...kept].slice(0, 100).join('').replace(/[@＠]+$/u, '').trim() || '?';
}

/** Mentions of characters in prompts: `@rob`, `@"two words"` or `＠“two words”`, read as the service reads them. */

export interface Mention {
  name: string;
  /** UTF-16 offsets into the prompt, the `@` and quotation marks included. */
  start: number;
  end: number;
}

const WORD = '[\\p{L}\\p{N}_]';
const BARE = `${WORD}+(?:-${WORD}+)*`;
const AT_IN_WORD = `(?<=${WORD})[@＠](?=${WORD})`;
/** Pairs of quotation marks, as keyboards of different languages write them. */
const QUOTES = ['""', '“”', '„“', '„”', '””', '«»', '»«', '‹›', '「」', '『』', '＂＂', '‘’', '‚‘'];
const QUOTED = QUOTES.map(([first, last]) => `${first}(?:[^@＠${first}${last}]|${AT_IN_WORD}){1,100}${last}`).join('|');
const MENTION = new RegExp(`(?<!${WORD})[@＠](?:(${QUOTED})|(${BARE}))`, 'gu');
const BARE_ONLY = new RegExp(`^${BARE}$`, 'u');
const OPEN_MENTION = new RegExp(`(?<!${WORD})[@＠](?:["“„”«»‹「『＂‘‚]([^@＠"\\n]{0,100})|((?:${WORD}|-)*))$`, 'u');

/** Scripts that put no spaces between words: a known name may end in the middle of a run of letters. */
const UNSPACED = /[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u{20000}-\u{3ffff}]/u;

/** The mentions in a prompt, in order; `names` are those of the cast. */
export function findMentions(prompt: string, names: readonly string[] = []): Mention[] {
  const known = new Set(names.map(folded));
  return [...prompt.matchAll(MENTION)].map((match) => {
    const start = match.index;
    if (match[1] !== undefined) return { name: match[1].slice(1, -1).trim(), start, end: start + match[0].length };
    const bare = match[2] ?? '';
    const name = known.has(folded(bare)) ? bare : knownBeginning(bare, known);
    return { name, start, end: start + 1 + name.length };
  });
}

/** The longest known name that a text begins with, followed by an unspaced script; else all of the text. */
function knownBeginning(text: string, known: ReadonlySet<string>): string {
  for (let stop = text.length - 1; stop > 0; stop--) {
    const following = String.fromCodePoint(text.codePointAt(stop) ?? 0);
    if (UNSPACED.test(following) && known.has(folded(text.slice(0, stop)))) return text.slice(0, stop);
  }
  return text;
}

/** A name in the form in which names are compared: any case, any Unicode composition. */
export function folded(name: string): string {
  return name.trim().normalize('NFC').toUpperCase().toLowerCase().normalize('NFC');
}

/** How a character is mentioned in a prompt. */
export function mentionOf(name: string): string {
  return BARE_ONLY.test(name) ? `@${name}` : `@"${name.replaceAll('"', "'")}"`;
}

/** The mention that is being typed before the caret, if there is one. */
export function openMention(prompt: string, caret: number): { start: number; query: string } | null {
  const match = OPEN_MENTION.exec(prompt.slice(0, caret));
  return match && { start: match.index, query: match[1] ?? match[2] ?? '' };
}

export interface Piece {
  text: string;
  mention: Mention | null;
}

/** The prompt cut at its mentions. */
export function pieces(prompt: string, names: readonly string[] = []): Piece[] {
  const found: Piece[] = [];
  let end = 0;
  for (const mention of findMentions(prompt, names)) {
    if (mention.start > end) found.push({ text: prompt.slice(end, mention.start), mention: null });
    found.push({ text: prompt.slice(mention.start, mention.end), mention });
    end = mention.end;
  }
  if (end < prompt.length) found.push({ text: prompt.slice(end), mention: null });
  return found;
}

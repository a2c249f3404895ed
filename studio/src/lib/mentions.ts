/** Mentions of characters in prompts: `@rob`, `@"two words"` or `＠“two words”`, read as the service reads them. */
import { FoldedText, isUnspaced, KnownNames, mentionable } from './mentionNames';

export { folded, nameKey } from './mentionNames';

export interface Mention {
  name: string;
  /** UTF-16 offsets into the prompt, the `@` and quotation marks included. */
  start: number;
  end: number;
}

export interface MentionReading {
  mentions: Mention[];
  /** Where the first `@` stands that names nobody, and that the service refuses. */
  unread: number | null;
}

const LETTER = '[\\p{L}\\p{N}_]';
const AT_IN_WORD = `(?<=${LETTER})[@＠](?=${LETTER})`;
/** Pairs of quotation marks, as keyboards of different languages write them. */
const PAIRS = ['""', '“”', '„“', '„”', '””', '«»', '»«', '‹›', '「」', '『』', '＂＂', '‘’', '‚‘', "''", '’’'];
/** Pairs of which a keyboard replaced one mark; read around known names only. */
const MIXED_PAIRS = ['“"', '"”', '„"', "‘'", "'’"];
/** These close a quotation only at the end of a word. */
const APOSTROPHES = "'’‘";
const ENDING = `['’](?:[sS]|[dD]|[mM]|[lL][lL]|[rR][eE]|[vV][eE])(?!${LETTER})`;
const BARE = `${LETTER}+(?:-${LETTER}+|(?!${ENDING})['’]${LETTER}+)*`;
const WORD = new RegExp(BARE, 'uy');
const CONTINUED = new RegExp(`${LETTER}|-${LETTER}|(?!${ENDING})['’]${LETTER}`, 'uy');
const EMAIL_LOCAL = /[A-Za-z0-9._%+-]*[A-Za-z0-9_]$/u;
const EMAIL_DOMAIN = /(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}/uy;
const BARE_ONLY = new RegExp(`^${BARE}$`, 'u');
const OPEN_MENTION = new RegExp(
  `(?<![A-Za-z0-9_])[@＠](?:["“„”«»‹「『＂‘‚']([^@＠"\\n]{0,100})|((?:[\\p{L}\\p{M}\\p{N}_\\-]|(?<=${LETTER})['’])*))$`,
  'u',
);
const QUOTATIONS = PAIRS.map(([first = '', last = '']) => {
  const apostrophe = APOSTROPHES.includes(last);
  const inside = `[^@＠${first}${last}]${apostrophe ? `|${last}(?=${LETTER})` : ''}|${AT_IN_WORD}`;
  return new RegExp(`${first}((?:${inside}){1,100})${last}${apostrophe ? `(?!${LETTER})` : ''}`, 'uy');
});

/** Read the mentions of a prompt; `names` are those of the cast. */
export function readMentions(prompt: string, names: readonly string[] = []): MentionReading {
  const reader = new Reader(prompt, new KnownNames(names));
  const mentions: Mention[] = [];
  let unread: number | null = null;
  let end = 0;
  for (const { index } of prompt.matchAll(/[@＠](?=\S)/gu)) {
    if (index < end || isEmail(prompt, end, index)) continue;
    const mention = reader.mentionAt(index, index > 0 && index === end);
    if (mention) {
      mentions.push(mention);
      end = mention.end;
    } else unread ??= index;
  }
  return { mentions, unread };
}

/** The mentions in a prompt, in order; `names` are those of the cast. */
export function findMentions(prompt: string, names: readonly string[] = []): Mention[] {
  return readMentions(prompt, names).mentions;
}

/** Reads single mentions of a prompt. */
class Reader {
  /** The prompt with a letter in place of each mark and joiner within a word. */
  private readonly letters: string;
  private readonly text: FoldedText;

  constructor(
    private readonly prompt: string,
    private readonly names: KnownNames,
  ) {
    const marks = /(?<=[\p{L}\p{N}_])[\p{M}\u200c\u200d]+/gu;
    this.letters = prompt.replace(marks, (found) => 'a'.repeat(found.length));
    this.text = new FoldedText(prompt);
  }

  /** The mention that begins with the `@` at `start`; after a letter, only that of a known name. */
  mentionAt(start: number, followsMention: boolean): Mention | null {
    const before = this.before(start);
    const separate = followsMention || !isLetter(this.letterBefore(start)) || isUnspaced(before);
    return (
      this.knownInQuotes(start, PAIRS) ??
      (APOSTROPHES.includes(this.prompt.charAt(start + 1)) ? this.known(start) : null) ??
      (separate ? this.unknownInQuotes(start) : null) ??
      this.knownInQuotes(start, MIXED_PAIRS) ??
      this.known(start) ??
      (separate ? this.unknownWord(start) : null)
    );
  }

  private known(start: number): Mention | null {
    const end = this.text.namesAt(start + 1, this.names).find((stop) => this.endsWord(stop));
    return end === undefined ? null : { name: this.prompt.slice(start + 1, end), start, end };
  }

  private knownInQuotes(start: number, pairs: readonly string[]): Mention | null {
    for (const [first, last = ''] of pairs) {
      if (this.prompt[start + 1] !== first) continue;
      const begin = this.skipSpaces(start + 2);
      const end = this.text.namesAt(begin, this.names).find((stop) => this.closes(stop, last));
      if (end !== undefined) return { name: this.prompt.slice(begin, end), start, end: this.skipSpaces(end) + 1 };
    }
    return null;
  }

  private unknownInQuotes(start: number): Mention | null {
    for (const pattern of QUOTATIONS) {
      const found = matchAt(pattern, this.letters, start + 1);
      const end = start + 1 + (found?.[0].length ?? 0);
      const name = this.prompt.slice(start + 2, end - 1).trim();
      if (found && name) return { name, start, end };
    }
    return null;
  }

  private unknownWord(start: number): Mention | null {
    const found = matchAt(WORD, this.letters, start + 1);
    if (!found) return null;
    const end = start + 1 + found[0].length;
    return { name: this.prompt.slice(start + 1, end), start, end };
  }

  /** Whether a name may end here. */
  private endsWord(end: number): boolean {
    if (!isLetter(this.letterBefore(end)) || !matchAt(CONTINUED, this.letters, end)) return true;
    const next = String.fromCodePoint(this.prompt.codePointAt(end) ?? 0);
    return isUnspaced(next) || (isUnspaced(this.before(end)) && /^\p{L}/u.test(next));
  }

  private closes(end: number, last: string): boolean {
    const mark = this.skipSpaces(end);
    if (this.prompt[mark] !== last) return false;
    const next = String.fromCodePoint(this.prompt.codePointAt(mark + 1) ?? 0);
    return !APOSTROPHES.includes(last) || !isLetter(next) || isUnspaced(next);
  }

  private skipSpaces(start: number): number {
    let end = start;
    while (/^\s$/u.test(this.prompt.charAt(end))) end++;
    return end;
  }

  private before(end: number): string {
    return /[^]$/u.exec(this.prompt.slice(0, end))?.[0] ?? '';
  }

  private letterBefore(end: number): string {
    return /[^]$/u.exec(this.letters.slice(0, end))?.[0] ?? '';
  }
}

function matchAt(pattern: RegExp, text: string, start: number): RegExpExecArray | null {
  pattern.lastIndex = start;
  return pattern.exec(text);
}

const isLetter = (character: string): boolean => /^[\p{L}\p{N}_]/u.test(character);

function isEmail(prompt: string, begin: number, at: number): boolean {
  return EMAIL_LOCAL.test(prompt.slice(Math.max(begin, at - 100), at)) && matchAt(EMAIL_DOMAIN, prompt, at + 1) !== null;
}

/** How a character is mentioned in a prompt. */
export function mentionOf(name: string): string {
  return BARE_ONLY.test(name) ? `@${name}` : `@"${mentionable(name)}"`;
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

/** Mentions of characters in prompts: `@rob` or `@"two words"`, read as the service reads them. */

export interface Mention {
  name: string;
  /** UTF-16 offsets into the prompt, the `@` and quotation marks included. */
  start: number;
  end: number;
}

const WORD = '[\\p{L}\\p{N}_]';
const BARE = `${WORD}+(?:-${WORD}+)*`;
const MENTION = new RegExp(`(?<!${WORD})@(?:"([^"]{1,100})"|(${BARE}))`, 'gu');
const BARE_ONLY = new RegExp(`^${BARE}$`, 'u');
const OPEN_MENTION = new RegExp(`(?<!${WORD})@(?:"([^"\\n]{0,100})|((?:${WORD}|-)*))$`, 'u');

export function findMentions(prompt: string): Mention[] {
  return [...prompt.matchAll(MENTION)].map((match) => ({
    name: (match[1] ?? match[2] ?? '').trim(),
    start: match.index,
    end: match.index + match[0].length,
  }));
}

/** A name in the form in which names are compared: any case, any Unicode composition. */
export function folded(name: string): string {
  return name.trim().normalize('NFC').toUpperCase().toLowerCase().normalize('NFC');
}

/** How a character is mentioned in a prompt. */
export function mentionOf(name: string): string {
  return BARE_ONLY.test(name) ? `@${name}` : `@"${name.replaceAll('"', '')}"`;
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
export function pieces(prompt: string): Piece[] {
  const found: Piece[] = [];
  let end = 0;
  for (const mention of findMentions(prompt)) {
    if (mention.start > end) found.push({ text: prompt.slice(end, mention.start), mention: null });
    found.push({ text: prompt.slice(mention.start, mention.end), mention });
    end = mention.end;
  }
  if (end < prompt.length) found.push({ text: prompt.slice(end), mention: null });
  return found;
}

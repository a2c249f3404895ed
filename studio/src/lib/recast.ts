/** The same story with another character. */
import { findMentions, folded, mentionOf } from './mentions';
import type { Strengths } from './strength';

interface Member {
  id: string;
  name: string;
}

interface Line {
  prompt: string;
  characters: (Strengths & { id: string })[];
}

const WORD = /^[\p{L}\p{N}_-]/u;

/** The line with one character in place of another, with its strengths; null where it does not mention that one. */
export function recast(line: Line, from: Member, to: Member, names: readonly string[]): Line | null {
  const mentions = findMentions(line.prompt, names).filter(({ name }) => folded(name) === folded(from.name));
  if (mentions.length === 0) return null;
  let { prompt } = line;
  for (const { start, end } of mentions.reverse()) {
    const rest = prompt.slice(end);
    // Letters that follow would be read as a part of a name without quotation marks.
    const mention = WORD.test(rest) ? `@"${to.name.replaceAll('"', "'")}"` : mentionOf(to.name);
    prompt = prompt.slice(0, start) + mention + rest;
  }
  const others = line.characters.filter(({ id }) => id !== from.id);
  const own = line.characters.find(({ id }) => id === from.id);
  const known = others.some(({ id }) => id === to.id);
  return { prompt, characters: own && !known ? [...others, { ...own, id: to.id }] : others };
}

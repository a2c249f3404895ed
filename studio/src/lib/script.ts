/** Scripts: a line a panel, and what is wrong with a line before it is drawn. */
import { findMentions, folded, nameKey, readMentions } from './mentions';

/** The most characters that one picture can have. */
export const MAX_CHARACTERS = 4;
export const MAX_PROMPT = 3000;

export interface CastMember {
  id: string;
  name: string;
  target_word: string;
}

export type Warning =
  | { kind: 'unknown'; name: string }
  | { kind: 'ambiguous'; name: string }
  | { kind: 'same_word'; names: string[]; word: string }
  | { kind: 'too_many'; count: number }
  | { kind: 'too_long'; count: number }
  | { kind: 'unread'; text: string };

const BREAKS = /\r\n|[\n\r\v\f\u0085\u2028\u2029]/u;
/** What people number or mark their lines with. */
const MARK = /^\s*(?:[-*•]\s+|\(?\d{1,3}[.):]\s+)/u;

/** The panels of a pasted text, as the service makes them of a script: its lines without marks, none of them empty. */
export function splitScript(text: string): string[] {
  return text
    .split(BREAKS)
    .map((line) => line.replace(MARK, '').trim())
    .filter((line) => line !== '');
}

const namesOf = (cast: readonly CastMember[]): string[] => cast.map((each) => each.name);

/** The members of the cast that a prompt mentions, each once, in the order of the prompt. */
export function mentioned<T extends CastMember>(prompt: string, cast: readonly T[]): T[] {
  const found = new Map<string, T>();
  for (const mention of findMentions(prompt, namesOf(cast))) {
    const member = cast.find((each) => nameKey(each.name) === nameKey(mention.name));
    if (member) found.set(member.id, member);
  }
  return [...found.values()];
}

/** What a reader of the script has to be told about a line, the gravest first. */
export function warningsOf(prompt: string, cast: readonly CastMember[]): Warning[] {
  const warnings: Warning[] = [];
  const { mentions, unread: at } = readMentions(prompt, namesOf(cast));
  const names = new Map(mentions.map((mention) => [nameKey(mention.name), mention.name]));
  for (const [key, name] of names) {
    const members = cast.filter((each) => nameKey(each.name) === key);
    if (members.length === 0) warnings.push({ kind: 'unknown', name });
    if (members.length > 1) warnings.push({ kind: 'ambiguous', name });
  }
  if (at !== null) warnings.push({ kind: 'unknown', name: /^\S+/u.exec(prompt.slice(at))?.[0] ?? '@' });
  const members = mentioned(prompt, cast);
  const words = groupByWord(members);
  for (const sharing of words.values()) {
    if (sharing.length > 1) {
      warnings.push({ kind: 'same_word', names: sharing.map((each) => each.name), word: sharing[0]?.target_word ?? '' });
    }
  }
  if (members.length > MAX_CHARACTERS) warnings.push({ kind: 'too_many', count: members.length });
  if (prompt.length > MAX_PROMPT) warnings.push({ kind: 'too_long', count: prompt.length });
  const unread = unreadText(prompt, cast);
  if (unread) warnings.push({ kind: 'unread', text: unread });
  return warnings;
}

function groupByWord<T extends CastMember>(members: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const member of members) {
    const key = folded(member.target_word);
    groups.set(key, [...(groups.get(key) ?? []), member]);
  }
  return groups;
}

/** The first run of letters outside the mentions that the text encoders, which know English, do not read. */
function unreadText(prompt: string, cast: readonly CastMember[]): string | null {
  let rest = prompt;
  for (const mention of findMentions(prompt, namesOf(cast)).reverse()) {
    rest = `${rest.slice(0, mention.start)} ${rest.slice(mention.end)}`;
  }
  return /(?:(?!\p{Script=Latin})\p{L})+/u.exec(rest)?.[0] ?? null;
}

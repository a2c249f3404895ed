import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { openMention, readMentions } from '../src/lib/mentions';

interface Case {
  prompt: string;
  mentions: [string, number, number][];
  unread: number | null;
}

/** What the service reads, which its own tests hold. */
const { names, cases } = JSON.parse(readFileSync('../tests/fixtures/mentions.json', 'utf8')) as {
  names: string[];
  cases: Case[];
};

test('prompts are read as the service reads them', () => {
  expect(cases.length).toBeGreaterThan(300);
  for (const { prompt, mentions, unread } of cases) {
    // The service counts characters.
    const place = (offset: number): number => [...prompt.slice(0, offset)].length;
    const found = readMentions(prompt, names);
    const read = found.mentions.map((each) => [each.name, place(each.start), place(each.end)]);
    expect({ prompt, mentions: read, unread: found.unread && place(found.unread) }).toEqual({ prompt, mentions, unread });
  }
});

test.each([
  ["@O'Hara waves", ['O’Hara', 'O'], ["O'Hara"]],
  ['@‘O’Hara’ and @O’Hara’s hat', ["O'Hara"], ['O’Hara', 'O’Hara']],
  ["@O'Hara’s hat", [], ["O'Hara"]],
  ['@Ada Lovelace runs', ['Ada', 'Ada Lovelace'], ['Ada Lovelace']],
  ['看到＠小明在海边', ['小明'], ['小明']],
  ['@철수가 달린다', ['철수'], ['철수']],
  ['@“Ada Lovelace”, @„Ada“, @«Ada», @「李雷」, @‘Rob’', [], ['Ada Lovelace', 'Ada', 'Ada', '李雷', 'Rob']],
  ['@"x@home.org" and me@home.org', [], ['x@home.org']],
])('the mentions of %s among %s', (prompt, known, expected) => {
  const { mentions, unread } = readMentions(prompt, known);
  expect(mentions.map((mention) => mention.name)).toEqual(expected);
  expect(unread).toBeNull();
});

test.each([
  ['@"unfinished', 0],
  ['a @!', 2],
  ['@"@ROB㐀', 0],
  ['a robot@home', 7],
  ['@ rob, 5 @ noon @', null],
])('the @ of %s that names nobody', (prompt, place) => {
  expect(readMentions(prompt, ['Rob']).unread).toBe(place);
});

test('a mention that is being typed', () => {
  expect(openMention('see @“Ada L', 11)).toEqual({ start: 4, query: 'Ada L' });
  expect(openMention("see @O'Ha", 9)).toEqual({ start: 4, query: "O'Ha" });
  expect(openMention('看到@小', 4)).toEqual({ start: 2, query: '小' });
});

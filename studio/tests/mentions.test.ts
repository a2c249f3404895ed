import { expect, test } from 'vitest';
import { findMentions, openMention } from '../src/lib/mentions';

test.each([
  ['@rob meets @"Ada Lovelace"', ['rob', 'Ada Lovelace']],
  ['@“Ada Lovelace”, @„Ada“, @«Ada», @「李雷」, @‘Rob’', ['Ada Lovelace', 'Ada', 'Ada', '李雷', 'Rob']],
  ['看，＠rob', ['rob']],
  ['@"@ROB', ['ROB']],
  ['@"x@home.org" and me@home.org', ['x@home.org']],
  ['@"unfinished', []],
])('the mentions of %s', (prompt, names) => {
  expect(findMentions(prompt).map((mention) => mention.name)).toEqual(names);
});

test('a mention that is being typed with typographic quotation marks', () => {
  expect(openMention('see @“Ada L', 11)).toEqual({ start: 4, query: 'Ada L' });
});

import { describe, expect, it } from 'vitest';
import { findMentions, folded, mentionOf, openMention, pieces } from '../src/lib/mentions';
import { mentioned, splitScript, warningsOf } from '../src/lib/script';

const cast = [
  { id: '1', name: 'Rob', target_word: 'robot' },
  { id: '2', name: 'Ada Lovelace', target_word: 'woman' },
  { id: '3', name: 'Zip', target_word: 'Robot' },
  { id: '4', name: '小铁', target_word: 'robot' },
];
const names = cast.map((each) => each.name);

describe('mentions', () => {
  it('are bare or in quotation marks, and none within a word', () => {
    const prompt = 'to me@rob.com: @rob meets @"Ada Lovelace", @x-ray';
    expect(findMentions(prompt, names).map((each) => each.name)).toEqual(['rob', 'Ada Lovelace', 'x-ray']);
    expect(prompt.slice(...Object.values(findMentions(prompt)[1]!).slice(1).map(Number))).toBe('@"Ada Lovelace"');
  });

  it('end with a known name where the script has no spaces', () => {
    expect(findMentions('@小铁在海边', names)).toEqual([{ name: '小铁', start: 0, end: 3 }]);
    expect(findMentions('@小铁在海边')[0]?.name).toBe('小铁在海边');
    expect(findMentions('@Robert', names)[0]?.name).toBe('Robert');
  });

  it('compare in any case and composition', () => {
    expect(folded('ÉMILE')).toBe(folded('e\u0301mile'));
    expect(folded('Straße')).toBe(folded('STRASSE'));
  });

  it('are written so that they are read again', () => {
    for (const name of ['Rob', 'Ada Lovelace', 'x-ray', '小铁', "O'Hara"]) {
      expect(findMentions(mentionOf(name))[0]?.name).toBe(name);
    }
    expect(mentionOf('the "king"')).toBe(`@"the 'king'"`);
  });

  it('are completed before the caret only', () => {
    expect(openMention('a @ro', 5)).toEqual({ start: 2, query: 'ro' });
    expect(openMention('a @"Ada Lo', 10)).toEqual({ start: 2, query: 'Ada Lo' });
    expect(openMention('a @rob runs', 11)).toBeNull();
    expect(openMention('me@ro', 5)).toBeNull();
  });

  it('cut a prompt into pieces that make it up', () => {
    const prompt = '@rob and @"Ada Lovelace" run';
    expect(pieces(prompt).map((each) => each.text)).toEqual(['@rob', ' and ', '@"Ada Lovelace"', ' run']);
  });
});

describe('scripts', () => {
  it('have a panel a line, without marks and empty lines', () => {
    expect(splitScript('1. one\r\n\n- two\n  (3) three\u2028• four\n2001 was long ago')).toEqual([
      'one',
      'two',
      'three',
      'four',
      '2001 was long ago',
    ]);
  });

  it('mention each of the cast once', () => {
    expect(mentioned('@ROB, @rob and @"ada lovelace"', cast).map((each) => each.id)).toEqual(['1', '2']);
  });

  it('warn of names that nobody has', () => {
    expect(warningsOf('@nobody runs', cast)).toEqual([{ kind: 'unknown', name: 'nobody' }]);
    expect(warningsOf('@rob runs', cast)).toEqual([]);
  });

  it('warn of two characters with one word', () => {
    expect(warningsOf('@rob and @zip', cast)).toEqual([{ kind: 'same_word', names: ['Rob', 'Zip'], word: 'robot' }]);
  });

  it('warn of a name that two have', () => {
    const twins = [...cast, { id: '5', name: 'rob', target_word: 'cat' }];
    expect(warningsOf('@Rob', twins)).toEqual([{ kind: 'ambiguous', name: 'Rob' }]);
  });

  it('warn of what the model does not read, names aside', () => {
    expect(warningsOf('@小铁 on the beach', cast)).toEqual([]);
    expect(warningsOf('@小铁在海边', cast)).toEqual([{ kind: 'unread', text: '在海边' }]);
  });

  it('warn of more characters than fit', () => {
    const many = [1, 2, 3, 4, 5].map((n) => ({ id: String(n), name: `n${n}`, target_word: `w${n}` }));
    expect(warningsOf('@n1 @n2 @n3 @n4 @n5', many)).toEqual([{ kind: 'too_many', count: 5 }]);
  });
});

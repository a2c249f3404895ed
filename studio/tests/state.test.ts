import { readFileSync } from 'node:fs';
import openapiTS, { astToString } from 'openapi-typescript';
import { describe, expect, it } from 'vitest';
import { disputed, newest } from '../src/api/merging';
import type { Panel, Story } from '../src/api/stories';
import { en } from '../src/i18n/en';
import { zh } from '../src/i18n/zh';
import { EventParser, serverEvents } from '../src/lib/sse';

describe('events', () => {
  it('come in pieces that end anywhere', () => {
    const text = ': alive\n\nid: 7\nevent: panel\ndata: {"a":\ndata: 1}\n\nevent: deleted\r\ndata: x\r\n\r\n';
    for (let size = 1; size < text.length; size++) {
      const parser = new EventParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
      expect(events).toEqual([
        { event: 'panel', data: '{"a":\n1}', id: '7' },
        { event: 'deleted', data: 'x', id: null },
      ]);
    }
  });

  it('of a body end with it', async () => {
    const bytes = new TextEncoder().encode('event: panel\ndata: 字\n\nevent: cut');
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
        controller.close();
      },
    });
    const found = [];
    for await (const event of serverEvents(body)) found.push(event);
    expect(found).toEqual([{ event: 'panel', data: '字', id: null }]);
  });
});

describe('answers and events', () => {
  const panel = (id: string, event: number, prompt: string) => ({ id, event, prompt }) as Panel;
  const story = (event: number, title: string, ...panels: Panel[]) => ({ id: 's', event, title, panels }) as Story;
  const told = story(3, 'told', panel('a', 7, 'drawn'), panel('b', 2, 'old'));

  it('that come late take nothing back', () => {
    const late = story(6, 'late', panel('a', 5, 'drawing'), panel('b', 6, 'new'));
    expect(newest(told, late)).toEqual(story(6, 'late', panel('a', 7, 'drawn'), panel('b', 6, 'new')));
  });

  it('keep the panels and the order that the newer one has', () => {
    const [a, b, c] = [panel('a', 7, 'drawn'), panel('b', 2, 'old'), panel('c', 1, 'deleted')];
    expect(newest(told, story(2, 'late', b, c, a))).toEqual(told);
    expect(newest(told, story(8, 'moved', b, a))).toEqual(story(8, 'moved', b, a));
  });

  it('of the same event follow the one that came last', () => {
    const typed = story(3, 'told', panel('a', 7, 'typed'), panel('b', 2, 'old'));
    expect(newest(told, typed)).toEqual(typed);
  });
});

describe('changes by two', () => {
  const base = { prompt: 'a', caption: 'b', revision: 1 };

  it('of different fields are no conflict', () => {
    expect(disputed(base, { ...base, caption: 'c', revision: 2 }, { prompt: 'x' })).toEqual([]);
  });

  it('that say the same are no conflict', () => {
    expect(disputed(base, { ...base, prompt: 'x', revision: 2 }, { prompt: 'x' })).toEqual([]);
  });

  it('of one field are', () => {
    const both = disputed(base, { ...base, prompt: 'y', revision: 2 }, { prompt: 'x' });
    expect(both).toEqual([{ name: 'prompt', theirs: 'y', mine: 'x' }]);
  });
});

describe('words', () => {
  const leaves = (words: object): [string, string][] =>
    Object.entries(words).flatMap(([key, value]: [string, unknown]) =>
      typeof value === 'string' ? [[key, value] as [string, string]] : leaves(value as object).map(([k, v]) => [`${key}.${k}`, v] as [string, string]),
    );
  const chinese = new Map(leaves(zh));

  it('have the same gaps in both languages', () => {
    const gaps = (text: string): string[] => (text.match(/\{\{\w+\}\}/g) ?? []).sort();
    for (const [key, text] of leaves(en)) expect(gaps(chinese.get(key) ?? ''), key).toEqual(gaps(text));
  });

  it('are all translated', () => {
    const same = leaves(en).filter(([key, text]) => text !== '' && chinese.get(key) === text && /[a-z]{3}/i.test(text));
    const names = ['product', 'language.en', 'pages.papers.letter', 'character.promptPlaceholder'];
    const prompts = ['example.robotPrompt', 'example.catPrompt', 'character.descriptionPlaceholder', 'picture.promptPlaceholder'];
    const formats = ['pages.formats.pdf', 'pages.formats.cbz', 'keyGate.placeholder'];
    expect(same.map(([key]) => key).filter((key) => ![...names, ...prompts, ...formats].includes(key))).toEqual([]);
  });
});

it('types are those of the interface', async () => {
  const document = new URL('../openapi.json', import.meta.url);
  const kept = readFileSync(new URL('../src/api/schema.d.ts', import.meta.url), 'utf8');
  const made = astToString(await openapiTS(document, { defaultNonNullable: false }));
  expect(kept.slice(kept.indexOf('export interface paths'))).toBe(made.slice(made.indexOf('export interface paths')));
}, 120_000);

import { expect, it } from 'vitest';
import { recast } from '../src/lib/recast';

const [bolt, miso, ada] = [{ id: 'b', name: 'Bolt' }, { id: 'm', name: 'Miso' }, { id: 'a', name: 'Ada Lovelace' }];
const names = [bolt, miso, ada].map(({ name }) => name);
const said = (prompt: string, from = bolt, to = miso) => recast({ prompt, characters: [] }, from, to, names)?.prompt ?? null;

it('every mention becomes one of the other character', () => {
  expect(said('@Bolt and @bolt, not Bolt nor @Bolts')).toBe('@Miso and @Miso, not Bolt nor @Bolts');
  expect(said('@Bolt at sea', bolt, ada)).toBe('@"Ada Lovelace" at sea');
  expect(said('@"Ada Lovelace"s cat', ada, miso)).toBe('@"Miso"s cat');
  expect(said('@Bolt在海边')).toBe('@"Miso"在海边');
});

it('a line without the character stays as it is', () => {
  expect(said('@Miso at sea')).toBe(null);
});

it('the strengths go with the part that is played', () => {
  const strengths = { strength: 1.5, face_strength: 1, body_strength: 0.5 };
  const line = { prompt: '@Bolt at sea', characters: [{ id: 'b', ...strengths }] };
  expect(recast(line, bolt, miso, names)?.characters).toEqual([{ id: 'm', ...strengths }]);
  const both = { prompt: '@Bolt and @Miso', characters: [{ id: 'b', ...strengths }, { id: 'm', ...strengths, strength: 1 }] };
  expect(recast(both, bolt, miso, names)?.characters).toEqual([{ id: 'm', ...strengths, strength: 1 }]);
});

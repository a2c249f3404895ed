import { afterEach, describe, expect, it } from 'vitest';
import { Problem } from '../src/api/problem';
import { conflict, saveFields } from '../src/api/saving';

interface Row {
  id: string;
  revision: number;
  strength: number;
  caption: string;
}

/** A service with one row that refuses changes of old revisions. */
function service(id: string) {
  let row: Row = { id, revision: 1, strength: 1, caption: '' };
  const send = async (on: Row, change: Partial<Row>): Promise<Row> => {
    await Promise.resolve();
    if (on.revision !== row.revision) throw new Problem('changed', 412, 'revision');
    row = { ...row, ...change, revision: row.revision + 1 };
    return row;
  };
  const theirs = (change: Partial<Row>): void => {
    row = { ...row, ...change, revision: row.revision + 1 };
  };
  return { first: row, send, theirs, load: async () => Promise.resolve(row), now: () => row };
}

describe('changes that are saved', () => {
  afterEach(() => conflict.set(null));

  it('of one page never dispute each other', async () => {
    const { first, send, load, now } = service('a');
    for (const strength of [1.1, 1.2, 1.3]) await saveFields({ base: first, change: { strength }, send, load });
    expect(conflict.get()).toBeNull();
    expect(now()).toMatchObject({ strength: 1.3, revision: 4 });
  });

  it('are merged with those of others, field by field', async () => {
    const { first, send, load, theirs, now } = service('b');
    await saveFields({ base: first, change: { strength: 1.1 }, send, load });
    theirs({ caption: 'theirs' });
    await saveFields({ base: first, change: { strength: 1.2 }, send, load });
    expect(conflict.get()).toBeNull();
    expect(now()).toMatchObject({ strength: 1.2, caption: 'theirs' });
  });

  it('are asked about where another one has changed the same', async () => {
    const { first, send, load, theirs, now } = service('c');
    await saveFields({ base: first, change: { strength: 1.1 }, send, load });
    theirs({ strength: 0.3 });
    const saved = saveFields({ base: first, change: { strength: 1.2 }, send, load });
    await new Promise((resolve) => setTimeout(resolve));
    expect(conflict.get()?.fields).toEqual([{ name: 'strength', theirs: 0.3, mine: 1.2 }]);
    conflict.get()?.decide('theirs');
    await saved;
    expect(now().strength).toBe(0.3);
  });
});

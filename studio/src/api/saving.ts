/** Changes to what others may change at the same time: nobody's words are lost. */
import { createStore } from '../lib/store';
import { disputed, type Disputed } from './merging';
import { Problem } from './problem';

export interface Conflict {
  fields: Disputed[];
  decide: (choice: 'mine' | 'theirs') => void;
}

/** The conflict that a person has to decide. */
export const conflict = createStore<Conflict | null>(null);

interface Saving<T, C> {
  /** What the change was made on. */
  base: T;
  change: C;
  send: (on: T, change: C) => Promise<T>;
  /** What is there now. */
  load: () => Promise<T>;
}

interface Revised {
  id: string;
  revision: number;
}

/** What this page has made of a revision, by its id and number: a later change goes on from there. */
const ours = new Map<string, Revised>();
const keyOf = ({ id, revision }: Revised): string => `${id} ${revision}`;

/** The last revision that this page has made of `base`, without anybody else's in between. */
function lastOfOurs<T extends Revised>(base: T): T {
  let last = base;
  for (let next; (next = ours.get(keyOf(last)) as T | undefined); ) last = next;
  return last;
}

/**
 * Send a change; where the service has a later revision, merge field by field.
 *
 * Fields that only one side has changed are merged without a word; for others a person decides.
 */
export async function saveFields<T extends Revised, C extends object>(saving: Saving<T, C>): Promise<T> {
  const base = lastOfOurs(saving.base);
  let on = base;
  let change = saving.change;
  for (;;) {
    try {
      const saved = await saving.send(on, change);
      if (saved.revision === on.revision + 1) ours.set(keyOf(on), saved);
      return saved;
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 412) throw error;
    }
    const now = await saving.load();
    const both = disputed(base, now, change);
    if (both.length && (await ask(both)) === 'theirs') {
      change = Object.fromEntries(
        Object.entries(change).filter(([name]) => !both.some((field) => field.name === name)),
      ) as C;
      if (Object.keys(change).length === 0) return now;
    }
    on = now;
  }
}

/** One conflict at a time. */
let asked: Promise<unknown> = Promise.resolve();

function ask(fields: Disputed[]): Promise<'mine' | 'theirs'> {
  const answer = asked.then(
    () =>
      new Promise<'mine' | 'theirs'>((resolve) => {
        conflict.set({
          fields,
          decide: (choice) => {
            conflict.set(null);
            resolve(choice);
          },
        });
      }),
  );
  asked = answer;
  return answer;
}

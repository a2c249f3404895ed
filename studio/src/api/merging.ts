/** What two have changed at the same time. */

/** A field that both have changed, as it is on the service and here. */
export interface Disputed {
  name: string;
  theirs: unknown;
  mine: unknown;
}

const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** The fields of a change that are now neither what it was made on nor what it makes of them. */
export function disputed<T extends object>(base: T, now: T, change: object): Disputed[] {
  const before = base as Record<string, unknown>;
  const after = now as Record<string, unknown>;
  return Object.entries(change)
    .filter(([name, mine]) => !same(after[name], before[name]) && !same(after[name], mine))
    .map(([name, mine]) => ({ name, theirs: after[name], mine: mine as unknown }));
}

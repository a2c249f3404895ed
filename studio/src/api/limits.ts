/** The limits of the key in use, from the latest answer that has told them. */
import { limitsOf, NO_LIMITS, type Limits } from '../lib/limits';
import { createStore } from '../lib/store';
import { keyStore } from './key';

export const limits = createStore<Limits>(NO_LIMITS);

keyStore.subscribe(() => limits.set(NO_LIMITS));

export function noteLimits(headers: Headers): void {
  limits.update((known) => limitsOf(headers, known, Date.now()));
}

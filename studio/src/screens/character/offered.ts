import { createStore } from '../../lib/store';

/** A picture drawn elsewhere that is to become a character. */
export const offered = createStore<Blob | null>(null);

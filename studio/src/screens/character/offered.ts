import { createStore } from '../../lib/store';

/** A picture drawn elsewhere that is to become a character. */
export const offered = createStore<Blob | null>(null);

/** The name of a character that a line mentions, and that is to be made. */
export const wantedName = createStore('');

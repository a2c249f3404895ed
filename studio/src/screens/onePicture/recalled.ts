import type { Recall } from '../../lib/recall';
import { createStore } from '../../lib/store';

/** The settings of a picture drawn before, with which One picture opens. */
export const recalled = createStore<Recall | null>(null);

/** The limits of a key, as the headers of answers tell them. */

export interface Limit {
  /** What the key may use, and what it has left of that. */
  limit: number;
  left: number;
  /** Milliseconds since 1970 when all of it is there again. */
  resets: number;
}

export interface Limits {
  /** Requests of a minute. */
  requests: Limit | null;
  /** Width x height x steps of the pictures of a day. */
  drawing: Limit | null;
}

export const NO_LIMITS: Limits = { requests: null, drawing: null };

/** The limits that an answer tells; what it does not tell is as it was `known`. */
export function limitsOf(headers: Headers, known: Limits, now: number): Limits {
  const drawing = limitOf(headers, 'pixel-steps', now);
  const requests = limitOf(headers, 'requests', now);
  return drawing || requests ? { requests: requests ?? known.requests, drawing: drawing ?? known.drawing } : known;
}

function limitOf(headers: Headers, name: string, now: number): Limit | null {
  const read = (part: string): number => Number(headers.get(`x-ratelimit-${part}-${name}`) ?? NaN);
  const [limit, left, seconds] = [read('limit'), read('remaining'), read('reset')];
  if (!(limit > 0) || !(left >= 0) || !(seconds >= 0)) return null;
  return { limit, left: Math.min(left, limit), resets: now + seconds * 1000 };
}

/** What is left now: all of it, once its time has come. */
export const leftOf = ({ limit, left, resets }: Limit, now: number): number => (now >= resets ? limit : left);

/** A part of a whole in per cent from 0 to 100: neither 0 where there is some nor 100 where there is not all. */
export function percentOf(part: number, whole: number): number {
  if (part <= 0 || whole <= 0) return 0;
  if (part >= whole) return 100;
  return Math.min(99, Math.max(1, Math.round((100 * part) / whole)));
}

/** Below this share, what is left is told on every screen. */
const LOW = 0.1;

/** How near the end a limit is: `out` where nothing is left of it, `low` where little is. */
export function nearness(limit: Limit | null, now: number): 'out' | 'low' | null {
  if (!limit) return null;
  const left = leftOf(limit, now);
  if (left === 0) return 'out';
  return left <= LOW * limit.limit ? 'low' : null;
}

/** How many pictures like those of today are left; null where none was drawn today. */
export function picturesLeft(left: number, today: { images: number; pixel_steps: number }): number | null {
  return today.images > 0 && today.pixel_steps > 0 ? Math.floor((left * today.images) / today.pixel_steps) : null;
}

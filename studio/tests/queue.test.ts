import { describe, expect, it } from 'vitest';
import { isOpen, placeOf } from '../src/lib/queue';

const job = (id: string, status: string, attempts = 0) => ({ id, status, attempts });

describe('a job that waits', () => {
  // As the service lists them: newest first.
  const jobs = [job('e', 'queued'), job('d', 'queued', 1), job('c', 'queued'), job('b', 'running', 1), job('a', 'done', 1)];

  it('says how many of the same person are before it', () => {
    expect(placeOf('c', jobs)).toEqual({ before: 0, again: false });
    expect(placeOf('e', jobs)).toEqual({ before: 2, again: false });
  });

  it('says when it is tried again', () => {
    expect(placeOf('d', jobs)).toEqual({ before: 1, again: true });
  });

  it('has no place once it is begun, or where it is not known', () => {
    expect(placeOf('b', jobs)).toBe(null);
    expect(placeOf('f', jobs)).toBe(null);
  });

  it('has not ended, as one that runs', () => {
    expect(jobs.filter(isOpen).map(({ id }) => id)).toEqual(['e', 'd', 'c', 'b']);
  });
});

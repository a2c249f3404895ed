import { describe, expect, it } from 'vitest';
import type { Panel } from '../src/api/stories';
import { isWaiting } from '../src/screens/story/panelState';

describe('a story waits', () => {
  const panel = (status?: string, step = 0) =>
    ({ job: status ? { id: 'j', status, step, total: 20, left: 1 } : null, takes: [], dirty: true }) as unknown as Panel;

  it('while nothing of what is to be drawn has begun', () => {
    expect(isWaiting([panel('queued'), panel('queued'), panel()])).toBe(true);
    expect(isWaiting([panel('running'), panel('queued')])).toBe(true);
  });

  it('not once a step is done, nor where nothing is to be drawn', () => {
    expect(isWaiting([panel('running', 1), panel('queued')])).toBe(false);
    expect(isWaiting([panel(), panel()])).toBe(false);
    expect(isWaiting([])).toBe(false);
  });
});

import { afterEach, expect, it, vi } from 'vitest';

const PATH = 'http://studio/v1/stories/s?size=1';

afterEach(() => vi.unstubAllGlobals());

it('takes a response that was asked for early once, and for reading only', async () => {
  const answer = (from: string): Promise<Response> => Promise.resolve(Response.json({ from }));
  vi.stubGlobal('sessionStorage', { getItem: () => null });
  vi.stubGlobal('fetch', () => answer('fetch'));
  vi.stubGlobal('early', new Map([['/v1/stories/s?size=1', answer('early')]]));
  const { send } = await import('../src/api/http');
  const from = async (init?: RequestInit): Promise<unknown> => {
    const response = await send(PATH, init);
    return ((await response.json()) as { from: string }).from;
  };
  expect(await from({ method: 'DELETE' })).toBe('fetch');
  expect(await from()).toBe('early');
  expect(await from()).toBe('fetch');
});

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

const PATH = 'http://studio/v1/stories/s';

/** What was sent, as method and key; `refused` are those that the service answers with 401. */
function service(refused: Set<string>) {
  const seen: string[] = [];
  vi.stubGlobal('fetch', (request: Request) => {
    const key = request.headers.get('Authorization') ?? '';
    seen.push(`${request.method} ${key}`);
    const body = { error: { message: 'no', code: 'invalid_api_key' } };
    return Promise.resolve(Response.json(refused.has(key) ? body : {}, { status: refused.has(key) ? 401 : 200 }));
  });
  return seen;
}

describe('a key that is refused', () => {
  beforeEach(() => {
    const items = new Map([['realcustom.key', 'rc-old']]);
    vi.stubGlobal('sessionStorage', {
      getItem: (name: string) => items.get(name) ?? null,
      setItem: (name: string, value: string) => items.set(name, value),
      removeItem: (name: string) => items.delete(name),
    });
    vi.resetModules();
  });
  afterEach(() => vi.unstubAllGlobals());

  const modules = async () => ({ ...(await import('../src/api/http')), ...(await import('../src/api/key')) });

  it('fails what is read', async () => {
    const seen = service(new Set(['Bearer rc-old']));
    const { send, keyRefused, held } = await modules();
    await expect(send(PATH)).rejects.toMatchObject({ status: 401 });
    expect([keyRefused.get(), held.get(), seen]).toEqual(['unknown', 0, ['GET Bearer rc-old']]);
  });

  it('holds changes until one is accepted', async () => {
    const seen = service(new Set(['Bearer rc-old', 'Bearer rc-wrong']));
    const { send, setKey, keyRefused, held } = await modules();
    const change = send(PATH, { method: 'PATCH', body: '{}' });
    await vi.waitFor(() => expect([keyRefused.get(), held.get()]).toEqual(['unknown', 1]));
    setKey('rc-wrong');
    await vi.waitFor(() => expect([seen.length, keyRefused.get()]).toEqual([2, 'unknown']));
    setKey('rc-new');
    expect((await change).ok).toBe(true);
    expect(seen).toEqual(['PATCH Bearer rc-old', 'PATCH Bearer rc-wrong', 'PATCH Bearer rc-new']);
    expect([keyRefused.get(), held.get()]).toEqual(['no', 0]);
  });

  it('is no matter once another was given', async () => {
    const seen = service(new Set(['Bearer rc-old']));
    const { send, setKey, keyRefused } = await modules();
    const reading = send(PATH);
    setKey('rc-new');
    expect((await reading).ok).toBe(true);
    expect([keyRefused.get(), seen]).toEqual(['no', ['GET Bearer rc-old', 'GET Bearer rc-new']]);
  });

  it('holds nothing that is given up', async () => {
    service(new Set(['Bearer rc-old']));
    const { send, held } = await modules();
    const controller = new AbortController();
    const change = send(PATH, { method: 'POST', signal: controller.signal });
    await vi.waitFor(() => expect(held.get()).toBe(1));
    controller.abort();
    await expect(change).rejects.toMatchObject({ name: 'AbortError' });
    expect(held.get()).toBe(0);
  });
});

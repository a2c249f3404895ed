/** Requests to the service, with the key in the header, that wait while the service asks them to. */
import { authorization, keyRefused, keyStore, untilKey } from './key';
import { noteLimits } from './limits';
import { Problem, problemOf } from './problem';
import { connected, lose, untilConnected, waitFor } from './waiting';

/** Refusals that ask for more patience than this are told at once. */
const LONGEST_WAIT_S = 300;
const REPEATABLE = new Set(['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE']);
const SAFE = new Set(['GET', 'HEAD']);

/**
 * `fetch` that throws a `Problem` for what is refused; the answer is a success.
 *
 * A change that is refused for its key has done nothing: it waits for another key, so that nothing typed is lost.
 */
export async function send(input: Request | string, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  const repeatable = REPEATABLE.has(request.method) || request.headers.has('Idempotency-Key');
  for (;;) {
    const key = keyStore.get();
    request.headers.delete('Authorization');
    for (const [name, value] of Object.entries(authorization())) request.headers.set(name, value);
    const response = await attempt(request.clone(), repeatable);
    if (!response) {
      await untilConnected(request.signal);
      continue;
    }
    if (key === keyStore.get()) noteLimits(response.headers);
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (problem.status === 401) {
      if (keyStore.get() !== key) continue; // another one was given meanwhile
      keyRefused.set(key ? 'unknown' : 'missing');
      if (!SAFE.has(request.method)) {
        await untilKey(request.signal);
        continue;
      }
    }
    if (!mayWait(problem, response)) throw problem;
    await waitFor(Math.max(1, problem.retryAfter ?? 5), problem, request.signal);
  }
}

/** The answer, or null where none came and the request may be sent again. */
async function attempt(request: Request, repeatable: boolean): Promise<Response | null> {
  try {
    const response = await (takeEarly(request) ?? fetch(request));
    connected.set(true);
    return response;
  } catch (error) {
    if (request.signal.aborted) throw error;
    lose();
    if (repeatable) return null;
    throw new Problem('no answer from the service', 0, 'no_connection');
  }
}

/** The response that `early.ts` has asked for, once. */
function takeEarly(request: Request): Promise<Response> | undefined {
  const { early } = globalThis as Partial<Pick<Window, 'early'>>;
  if (!early || request.method !== 'GET') return undefined;
  const { pathname, search } = new URL(request.url);
  const response = early.get(pathname + search);
  early.delete(pathname + search);
  return response;
}

function mayWait(problem: Problem, response: Response): boolean {
  if (problem.status !== 429 && problem.status !== 503) return false;
  if (response.headers.get('X-Should-Retry') === 'false') return false;
  return (problem.retryAfter ?? 5) <= LONGEST_WAIT_S;
}

export interface Call {
  body?: unknown;
  form?: FormData;
  query?: Record<string, string | number | undefined>;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** A JSON answer of one route. */
export async function call<T>(method: string, path: string, options: Call = {}): Promise<T> {
  const response = await send(withQuery(path, options.query), {
    method,
    signal: options.signal ?? null,
    headers: { ...(options.body === undefined ? {} : { 'Content-Type': 'application/json' }), ...options.headers },
    body: options.form ?? (options.body === undefined ? null : JSON.stringify(options.body)),
  });
  return (response.status === 204 ? undefined : await response.json()) as T;
}

function withQuery(path: string, query: Call['query'] = {}): string {
  const given = Object.entries(query).filter((entry): entry is [string, string | number] => entry[1] !== undefined);
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return search ? `${path}?${search}` : path;
}

/** A key under which the service does the same thing only once. */
export function idempotencyKey(): Record<string, string> {
  // `crypto.randomUUID` exists on https and localhost only.
  const random = crypto.getRandomValues(new Uint32Array(4));
  return { 'Idempotency-Key': [...random].map((each) => each.toString(16).padStart(8, '0')).join('-') };
}

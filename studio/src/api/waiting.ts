/** Requests that wait: for their turn, for a service that is busy, or for the connection to come back. */
import { createStore } from '../lib/store';
import { Problem } from './problem';

export interface Wait {
  id: number;
  reason: 'busy' | 'limit';
  /** Milliseconds since 1970 when the wait began, and when the request is sent again. */
  begun: number;
  until: number;
  stop: () => void;
}

export const waits = createStore<readonly Wait[]>([]);
/** Whether the last request reached the service. */
export const connected = createStore<boolean>(true);

let count = 0;
const POLL_MS = 2000;

/** Wait so many seconds, in view of the person; they may stop it, and the problem is thrown. */
export function waitFor(seconds: number, problem: Problem, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const id = ++count;
    const finish = (end: () => void): void => {
      clearTimeout(timer);
      waits.update((all) => all.filter((wait) => wait.id !== id));
      end();
    };
    const timer = setTimeout(() => finish(resolve), seconds * 1000);
    const reason = problem.status === 429 && problem.code === 'rate_limit_exceeded' ? 'limit' : 'busy';
    const stop = (): void => finish(() => reject(problem));
    const begun = Date.now();
    waits.update((all) => [...all, { id, reason, begun, until: begun + seconds * 1000, stop }]);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

let watching = false;

/** The connection is lost: ask for the service until it answers. */
export function lose(): void {
  connected.set(false);
  if (watching) return;
  watching = true;
  const ask = async (): Promise<void> => {
    try {
      const answer = await fetch('/healthz', { cache: 'no-store' });
      if (answer.status < 502) {
        watching = false;
        connected.set(true);
        return;
      }
    } catch {
      // Not yet.
    }
    setTimeout(() => void ask(), POLL_MS);
  };
  window.addEventListener('online', () => void (watching && ask()), { once: true });
  setTimeout(() => void ask(), POLL_MS);
}

/** Until the service answers again. */
export function untilConnected(signal?: AbortSignal | null): Promise<void> {
  if (connected.get()) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const off = connected.subscribe(() => {
      if (!connected.get()) return;
      off();
      resolve();
    });
    signal?.addEventListener('abort', () => {
      off();
      reject(new DOMException('aborted', 'AbortError'));
    });
  });
}

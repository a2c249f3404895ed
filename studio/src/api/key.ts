/** The key: in the tab's session storage, and nowhere else. */
import { createStore } from '../lib/store';

const ITEM = 'realcustom.key';

export const keyStore = createStore<string>(sessionStorage.getItem(ITEM) ?? '');
/** Whether the service has refused the last request for want of a good key. */
export const keyRefused = createStore<'no' | 'missing' | 'unknown'>('no');

export function setKey(key: string): void {
  const trimmed = key.trim();
  if (trimmed) sessionStorage.setItem(ITEM, trimmed);
  else sessionStorage.removeItem(ITEM);
  keyStore.set(trimmed);
  keyRefused.set('no');
}

/** How many changes wait for a key that the service accepts. */
export const held = createStore(0);

/** Until the person has given another key. */
export function untilKey(signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (end: () => void): void => {
      off();
      signal.removeEventListener('abort', abort);
      held.update((count) => count - 1);
      end();
    };
    const abort = (): void => settle(() => reject(new DOMException('aborted', 'AbortError')));
    const off = keyRefused.subscribe(() => keyRefused.get() === 'no' && settle(resolve));
    signal.addEventListener('abort', abort);
    held.update((count) => count + 1);
  });
}

export function authorization(): Record<string, string> {
  const key = keyStore.get();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

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

export function authorization(): Record<string, string> {
  const key = keyStore.get();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

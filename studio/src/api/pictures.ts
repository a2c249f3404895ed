/** Pictures by path: fetched with the key in the header, shown as blob: URLs, revoked when nobody shows them. */
import { useEffect, useState } from 'react';
import { createStore } from '../lib/store';
import { send } from './http';
import { asProblem, type Problem } from './problem';

interface Entry {
  users: number;
  url: string | null;
  loading: Promise<string> | null;
  controller: AbortController;
}

/** So many pictures that nobody shows stay at hand. */
const KEPT = 200;
/** So many requests for pictures at a time; browsers allow six connections to a host of HTTP/1.1. */
const AT_A_TIME = 4;

/** Whether pictures are being loaded. */
export const picturesLoading = createStore(false);
let loading = 0;

function count(change: 1 | -1): void {
  loading += change;
  picturesLoading.set(loading > 0);
}

const entries = new Map<string, Entry>();
const queue: (() => void)[] = [];
let active = 0;

async function turn<T>(work: () => Promise<T>): Promise<T> {
  if (active >= AT_A_TIME) await new Promise<void>((resolve) => queue.push(resolve));
  active++;
  try {
    return await work();
  } finally {
    active--;
    queue.shift()?.();
  }
}

async function load(path: string, entry: Entry, atOnce: boolean): Promise<string> {
  const fetched = async (): Promise<Blob> => (await send(path, { signal: entry.controller.signal })).blob();
  count(1);
  try {
    const blob = await (atOnce ? fetched() : turn(fetched));
    entry.url = URL.createObjectURL(blob);
    return entry.url;
  } finally {
    count(-1);
  }
}

function take(path: string, atOnce = false): Entry {
  const entry = entries.get(path) ?? { users: 0, url: null, loading: null, controller: new AbortController() };
  entries.delete(path); // the newest use is last
  entries.set(path, entry);
  entry.users++;
  entry.loading ??= load(path, entry, atOnce).catch((error: unknown) => {
    if (entries.get(path) === entry) entries.delete(path);
    throw error;
  });
  return entry;
}

function release(path: string, entry: Entry): void {
  entry.users--;
  if (entry.users === 0 && entry.url === null) {
    entry.controller.abort();
    if (entries.get(path) === entry) entries.delete(path);
  }
  const unused = [...entries].filter(([, each]) => each.users === 0);
  for (const [old, each] of unused.slice(0, Math.max(0, unused.length - KEPT))) {
    if (each.url) URL.revokeObjectURL(each.url);
    entries.delete(old);
  }
}

/** Load a picture that is soon shown, while the page is busy with rendering: the browser takes turns by itself. */
export function preloadPicture(path: string): void {
  const entry = take(path, true);
  const done = (): void => release(path, entry);
  entry.loading?.then(done, done);
}

/** Forget all pictures, as when the key changes. */
export function forgetPictures(): void {
  for (const entry of entries.values()) if (entry.url) URL.revokeObjectURL(entry.url);
  entries.clear();
}

/** Whether a picture can be shown without loading it. */
export const isAtHand = (path: string | null): boolean => path !== null && Boolean(entries.get(path)?.url);

/** The blob: URL of a picture; null while it loads, or where there is no path. */
export function usePicture(path: string | null): { url: string | null; problem: Problem | null } {
  const [state, setState] = useState<{ path: string | null; url: string | null; problem: Problem | null }>({
    path: null,
    url: null,
    problem: null,
  });
  useEffect(() => {
    if (!path) return;
    const entry = take(path);
    let shown = true;
    entry.loading?.then(
      (url) => shown && setState({ path, url, problem: null }),
      (error: unknown) => shown && setState({ path, url: null, problem: asProblem(error) }),
    );
    return () => {
      shown = false;
      release(path, entry);
    };
  }, [path]);
  const known = path ? (entries.get(path)?.url ?? null) : null;
  return state.path === path ? { url: state.url, problem: state.problem } : { url: known, problem: null };
}

/** The bytes of a picture. */
export async function fetchPicture(path: string): Promise<Blob> {
  return (await send(path)).blob();
}

/** The blob: URL of bytes at hand, revoked when they change. */
export function useBlobUrl(blob: Blob | null): string | null {
  const [made, setMade] = useState<{ blob: Blob; url: string } | null>(null);
  useEffect(() => {
    if (!blob) return;
    const url = URL.createObjectURL(blob);
    // The URL is a resource that has to be made and revoked with the effect.
    // eslint-disable-next-line react-hooks/set-state-in-effect
    setMade({ blob, url });
    return () => URL.revokeObjectURL(url);
  }, [blob]);
  return made?.blob === blob ? made?.url ?? null : null;
}

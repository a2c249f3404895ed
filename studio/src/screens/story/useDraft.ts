/** Text that is being typed and saved by itself, while others may change what it was made of. */
import { useCallback, useEffect, useRef, useState } from 'react';

const PAUSE_MS = 700;

interface Draft<B> {
  text: string;
  /** What the change is made on. */
  base: B;
}

/**
 * A draft over `value`: what is typed is shown at once and saved after a pause, on blur, and when the field goes away.
 *
 * While there is a draft, `value` may change without the typed text being lost; `save` sees what it was based on.
 */
export function useDraft<B>(value: string, base: B, save: (text: string, base: B) => Promise<unknown>) {
  const [draft, setDraft] = useState<Draft<B> | null>(null);
  const [error, setError] = useState<unknown>(null);
  const latest = useRef<Draft<B> | null>(null);
  const saving = useRef(false);
  const saver = useRef(save);
  useEffect(() => {
    saver.current = save;
  });

  const flush = useCallback(async (): Promise<void> => {
    const sent = latest.current;
    if (!sent || saving.current) return;
    saving.current = true;
    try {
      await saver.current(sent.text, sent.base);
      setError(null);
      if (latest.current === sent) {
        latest.current = null;
        setDraft(null);
      }
    } catch (problem) {
      setError(problem);
      return;
    } finally {
      saving.current = false;
    }
  }, []);

  const type = (text: string): void => {
    // A later keystroke goes on from what the last save has made, once that is over.
    const next = { text, base: latest.current && saving.current ? base : (latest.current?.base ?? base) };
    latest.current = next;
    setDraft(next);
  };

  useEffect(() => {
    if (!draft) return;
    const timer = setTimeout(() => void flush(), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [draft, flush]);
  useEffect(() => () => void flush(), [flush]);
  useEffect(() => {
    if (!draft) return;
    const warn = (event: BeforeUnloadEvent): void => event.preventDefault();
    window.addEventListener('beforeunload', warn);
    return () => window.removeEventListener('beforeunload', warn);
  }, [draft]);

  return { text: draft?.text ?? value, type, flush, error, unsaved: draft !== null };
}

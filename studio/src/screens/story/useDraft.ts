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
  /** The save under way, until it and those asked for meanwhile are over. */
  const saving = useRef<Promise<void> | null>(null);
  const again = useRef(false);
  const saver = useRef(save);
  useEffect(() => {
    saver.current = save;
  });

  const flush = useCallback((): Promise<void> => {
    if (!latest.current) return Promise.resolve();
    again.current = true;
    const all = async (): Promise<void> => {
      try {
        while (again.current && latest.current) {
          again.current = false;
          const sent = latest.current;
          await saver.current(sent.text, sent.base);
          setError(null);
          if (latest.current === sent) {
            latest.current = null;
            setDraft(null);
          }
        }
      } catch (problem) {
        setError(problem);
      } finally {
        saving.current = null;
      }
    };
    return (saving.current ??= all());
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

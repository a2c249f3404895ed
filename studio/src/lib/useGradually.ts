/** Long lists, a dozen at a time. */
import { useEffect, useState } from 'react';

/** So long the rest waits for what is in the window, in milliseconds. */
const PATIENCE_MS = 2000;

/**
 * How many of `count` are to be rendered: the first `step` at once, the rest as the browser finds time, so that what is
 * in the window is shown before what is below it.
 *
 * @param calm False while the window waits for something: no more are rendered meanwhile, for a while.
 */
export function useGradually(count: number, calm: boolean, step = 12): number {
  const [rendered, setRendered] = useState(step);
  useEffect(() => {
    if (rendered >= count) return;
    const more = (): void => setRendered((before) => before + step);
    // Safari has no idle callbacks.
    if (!calm || typeof requestIdleCallback === 'undefined') {
      const timer = setTimeout(more, calm ? 50 : PATIENCE_MS);
      return () => clearTimeout(timer);
    }
    const idle = requestIdleCallback(more, { timeout: 500 });
    return () => cancelIdleCallback(idle);
  }, [rendered, count, step, calm]);
  return Math.min(rendered, count);
}

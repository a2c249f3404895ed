/** Long lists, a dozen at a time. */
import { useEffect, useState } from 'react';

/**
 * How many of `count` are to be rendered: the first `step` at once, the rest as the browser finds time, so that what is
 * in the window is shown before what is below it.
 */
export function useGradually(count: number, step = 12): number {
  const [rendered, setRendered] = useState(step);
  useEffect(() => {
    if (rendered >= count) return;
    const more = (): void => setRendered((before) => before + step);
    // Safari has no idle callbacks.
    if (typeof requestIdleCallback === 'undefined') {
      const timer = setTimeout(more, 50);
      return () => clearTimeout(timer);
    }
    const idle = requestIdleCallback(more, { timeout: 500 });
    return () => cancelIdleCallback(idle);
  }, [rendered, count, step]);
  return Math.min(rendered, count);
}

/** Whether all parts of the service are there. */
import { queryOptions } from '@tanstack/react-query';

const POLL_MS = 3000;

/** True also where nothing answers: that the connection is lost is told elsewhere. */
export const readinessQuery = queryOptions({
  queryKey: ['readiness'],
  queryFn: async ({ signal }): Promise<boolean> => {
    try {
      return (await fetch('/readyz', { signal, cache: 'no-store' })).status !== 503;
    } catch {
      return true;
    }
  },
  staleTime: 0,
  refetchInterval: POLL_MS,
});

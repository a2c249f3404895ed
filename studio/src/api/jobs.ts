/** The person's own jobs that wait, so that each can say how many are before it. */
import { queryOptions, useQuery } from '@tanstack/react-query';
import { isOpen, placeOf, type Place, type QueuedJob } from '../lib/queue';
import type { Schemas } from './client';
import { call } from './http';
import type { List } from './stories';

type Job = Schemas['JobResponse'];

const PAGE = 100;
/** Where more than this is open, places are not told. */
const MOST_PAGES = 5;
const EVERY_MS = 5000;

/** All that has not ended; nothing where there is more than is read. */
async function openJobs(signal: AbortSignal): Promise<QueuedJob[]> {
  const all: QueuedJob[] = [];
  let after: string | undefined;
  for (let page = 0; page < MOST_PAGES; page++) {
    const answer: List<Job> = await call('GET', '/v1/jobs', { query: { limit: PAGE, after }, signal });
    const open = answer.data.filter(isOpen);
    all.push(...open.map(({ id, status, attempts }) => ({ id, status, attempts })));
    // Newest first: what comes after a page of ended ones has ended, too.
    if (!answer.has_more || open.length === 0) return all;
    after = answer.data.at(-1)?.id;
  }
  return [];
}

const queueQuery = queryOptions({
  queryKey: ['queue'],
  queryFn: ({ signal }) => openJobs(signal),
  staleTime: EVERY_MS,
});

/** Ask for the queue again and again while something waits. On a screen, one place does so for all. */
export function useFollowQueue(waiting: boolean): void {
  useQuery({ ...queueQuery, enabled: waiting, refetchInterval: waiting && EVERY_MS, notifyOnChangeProps: [] });
}

/** The place of a job in the queue that is followed. */
export function usePlace(job: string | null): Place | null {
  const select = (jobs: QueuedJob[]): Place | null => (job === null ? null : placeOf(job, jobs));
  return useQuery({ ...queueQuery, enabled: false, select }).data ?? null;
}

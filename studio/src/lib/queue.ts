/** Where a job stands among the jobs of the same person that wait. */

export interface QueuedJob {
  id: string;
  status: string;
  /** How often it was begun. */
  attempts: number;
}

export interface Place {
  /** How many of the person's own jobs are begun before it. */
  before: number;
  /** It was begun and is tried again. */
  again: boolean;
}

/** Whether a job has not ended. */
export const isOpen = ({ status }: Pick<QueuedJob, 'status'>): boolean => status === 'queued' || status === 'running';

/**
 * The place of a job that waits; null where it does not wait, or where the jobs do not tell.
 *
 * Ids grow with time, and the jobs of one person are begun in their order; those of others come in between.
 */
export function placeOf(id: string, jobs: readonly QueuedJob[]): Place | null {
  const waiting = jobs.filter((job) => job.status === 'queued');
  const own = waiting.find((job) => job.id === id);
  return own ? { before: waiting.filter((job) => job.id < id).length, again: own.attempts > 0 } : null;
}

/** The event stream of a story, read with the key in the header; it comes back by itself where it was left. */
import type { QueryClient } from '@tanstack/react-query';
import { serverEvents, type ServerEvent } from '../lib/sse';
import { send } from './http';
import { inOrder, withPanel } from './merging';
import { asProblem } from './problem';
import { queryKeys } from './queries';
import type { Panel, Story, StoryHead } from './stories';
import { lose, untilConnected } from './waiting';

const PAUSE_MS = 1000;

/** The event `preview`: a panel's picture in the making, as a small PNG. */
export interface Preview {
  panel: string;
  job: string;
  step: number;
  b64_json: string;
}

/** Follow a stream, from the event that was `seen` last, until `signal` ends it. */
export async function follow(
  path: string,
  onEvent: (event: ServerEvent) => void,
  signal: AbortSignal,
  seen: number,
): Promise<void> {
  let last = String(seen);
  while (!signal.aborted) {
    try {
      const response: Response = await send(path, { headers: { 'Last-Event-ID': last }, signal });
      if (response.status === 204) return;
      if (!response.body) return;
      for await (const event of serverEvents(response.body)) {
        last = event.id ?? last;
        onEvent(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      const problem = asProblem(error);
      if ([401, 403, 404].includes(problem.status)) return;
      if (problem.status === 0) lose();
      await untilConnected(signal).catch(() => undefined);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

type StoryEvent = StoryHead & { order?: string[] };

/** Put what an event says into the cache. */
export function applyStoryEvent(client: QueryClient, story: string, event: ServerEvent): void {
  const key = queryKeys.story(story);
  if (event.event === 'panel') {
    const panel = JSON.parse(event.data) as Panel;
    client.setQueryData<Story>(key, (old) => old && withPanel(old, panel));
    const drawing = panel.job && (panel.job.status === 'queued' || panel.job.status === 'running');
    if (!drawing) client.removeQueries({ queryKey: queryKeys.preview(panel.id) });
  } else if (event.event === 'preview') {
    const preview = JSON.parse(event.data) as Preview;
    client.setQueryData<Preview>(queryKeys.preview(preview.panel), preview);
  } else if (event.event === 'story') {
    const { order, ...head } = JSON.parse(event.data) as StoryEvent;
    client.setQueryData<Story>(key, (old) => old && { ...old, ...head, panels: inOrder(old.panels, order) });
    const known = client.getQueryData<Story>(key)?.panels ?? [];
    if (order && order.some((id) => !known.some((panel) => panel.id === id))) {
      void client.invalidateQueries({ queryKey: key });
    }
  } else if (event.event === 'deleted') {
    const { panel, id } = JSON.parse(event.data) as { panel?: string; id?: string };
    const gone = panel ?? id;
    if (gone === story) client.removeQueries({ queryKey: key });
    else client.setQueryData<Story>(key, (old) => old && { ...old, panels: old.panels.filter((p) => p.id !== gone) });
  }
}
